// The calls of the API. The key is kept for this tab's session, and sent to the API alone.

const KEY = "transcoding-api-key";
// The console is at …/console, the calls are at …/transcoding/api/….
const BASE = new URL("transcoding/api/", location.href.split(/[?#]/)[0]);

export class ApiError extends Error {
  constructor(message, errcode, retryable) {
    super(message);
    this.errcode = errcode;
    this.retryable = retryable;
  }
}

// A link may bring the key in its fragment, as `make demo` prints it: #key=…&/tasks/…
const [, brought, rest] = /^#key=([^&]*)&?(.*)$/.exec(location.hash) ?? [];
if (brought) {
  sessionStorage.setItem(KEY, decodeURIComponent(brought));
  history.replaceState(null, "", `#${rest || "/"}`);
}

export const hasKey = () => Boolean(sessionStorage.getItem(KEY));
export const setKey = (key) => sessionStorage.setItem(KEY, key);
export const forgetKey = () => sessionStorage.removeItem(KEY);

let refused = () => {};
export const onRefused = (listener) => (refused = listener);

export async function call(name, { query, body, headers, signal } = {}) {
  const url = new URL(name, BASE);
  if (query) url.search = new URLSearchParams(query);
  const key = sessionStorage.getItem(KEY);
  const sent = { "x-api-key": key ?? "", ...headers };
  const request = { headers: sent, signal, cache: "no-store" };
  if (body) Object.assign(request, { method: "POST", body: JSON.stringify(body) });
  let response, answer;
  try {
    response = await fetch(url, request);
    answer = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(String(error), 0, true);
  }
  if (answer.errcode === 1000) return answer;
  // A key that was forgotten, or replaced, meanwhile says nothing of the present one.
  if (response.status === 403 && key && key === sessionStorage.getItem(KEY)) refused();
  throw new ApiError(answer.msg ?? response.statusText, answer.errcode, response.status === 429 || response.status >= 500);
}

export const pause = (milliseconds, signal) =>
  new Promise((done, failed) => {
    const end = () => (clearTimeout(timer), failed(new DOMException("", "AbortError")));
    const timer = setTimeout(() => (signal?.removeEventListener("abort", end), done()), milliseconds);
    signal?.addEventListener("abort", end, { once: true });
  });

// Calls again, with growing waits, what may succeed later.
export async function insist(name, request = {}, tries = 6) {
  for (let attempt = 0; ; attempt++) {
    try {
      return await call(name, request);
    } catch (error) {
      if (!error.retryable || attempt + 1 >= tries) throw error;
      await pause(2 ** attempt * 500 * (0.75 + Math.random() / 2), request.signal);
    }
  }
}
