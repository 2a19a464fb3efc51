// Uploads of files in parts, straight to S3. What has been begun is remembered by the browser, so that an upload that was
// broken off, also by closing the tab, goes on where it was when the same file is chosen again.

import { call, insist, pause } from "./api.js";
import { bytes, ordered, time, words } from "./words.js";
import { h } from "./dom.js";

const STORE = "transcoding-uploads";
const FILES_AT_ONCE = 2;
const PARTS_AT_ONCE = 3;
const TRIES = 6;

const REFUSED_KEY = 1403;

const uploads = [];
let changed = () => {};
let folded = false;

// What lies under the list of uploads can be scrolled to.
const watched = new ResizeObserver(([{ target }]) => document.documentElement.style.setProperty("--uploads", `${target.offsetHeight}px`));

const remember = () => {
  const open = uploads.filter((upload) => upload.id && !["done", "failed"].includes(upload.state));
  const kept = open.map(({ id, name, size, modified, order, key }) => ({ id, name, size, modified, order, key }));
  localStorage.setItem(STORE, JSON.stringify(kept));
};

function show() {
  const place = document.getElementById("uploads");
  const list = h("ul", { id: "upload-list", hidden: folded }, uploads.map(card));
  const fold = h("button.small.plain", { onclick: () => ((folded = !folded), show(), document.querySelector("#uploads button").focus()), "aria-expanded": String(!folded), "aria-controls": "upload-list" }, folded ? words.unfold : words.fold);
  place.replaceChildren(...(uploads.length ? [h("section", { "aria-label": words.uploads }, h("div.headline", {}, h("h2", {}, `${words.uploads} (${uploads.length})`), fold), list)] : []));
  watched.disconnect();
  if (uploads.length) watched.observe(place.firstChild);
  else document.documentElement.style.removeProperty("--uploads");
}

function facts(upload) {
  const { state, size, sent, error } = upload;
  const seconds = upload.rate > 0 ? (size - sent) / upload.rate : null;
  const told = [words.upload_state[state]];
  if (state === "sending") told.push(`${bytes(sent)} / ${bytes(size)}`, ...(seconds ? [words.left(time(seconds))] : []));
  if (error && ["failed", "paused"].includes(state)) told.push(error);
  if (state === "paused") told.push(ordered(upload.order));
  return told.join(" · ");
}

const share = ({ size, sent }) => (size ? sent / size : 0);

// Shows how far it is. Buttons stay: one that is replaced cannot be pressed.
function refresh(upload) {
  upload.element.querySelector(".facts").textContent = facts(upload);
  upload.element.querySelector("progress").value = share(upload);
}

function card(upload) {
  upload.element ??= h("li.upload", {});
  const { state, name } = upload;
  const actions = [];
  if (state === "done") actions.push(h("a.button.small", { href: `#/tasks/${upload.task}`, onclick: () => remove(upload) }, words.open_url));
  if (["waiting", "sending"].includes(state)) actions.push(h("button.small.plain", { onclick: () => stop(upload), "aria-label": `${words.upload_stop}: ${name}` }, words.upload_stop));
  if (state === "paused" && upload.file) actions.push(h("button.small", { onclick: () => begin(upload) }, words.upload_again));
  if (state === "paused" && !upload.file) actions.push(picker(upload));
  if (["done", "paused", "failed"].includes(state)) actions.push(h("button.small.plain", { onclick: () => remove(upload), "aria-label": `${words.upload_remove}: ${name}` }, words.upload_remove));
  upload.element.replaceChildren(
    h("strong.name", {}, name),
    h("span.facts", {}, facts(upload)),
    h("progress", { max: 1, value: share(upload), "aria-label": name }),
    h("span.actions", {}, actions),
  );
  upload.element.className = `upload ${state}`;
  return upload.element;
}

function picker(upload) {
  const input = h("input", {
    type: "file",
    onchange: () => {
      const [file] = input.files;
      if (!file) return;
      if (file.name !== upload.name || file.size !== upload.size) {
        upload.error = words.upload_other;
        return card(upload);
      }
      upload.file = file;
      begin(upload);
    },
  });
  return h("label.button.small", {}, words.upload_reselect, input);
}

function remove(upload) {
  upload.abort?.abort();
  const at = uploads.indexOf(upload);
  if (at >= 0) uploads.splice(at, 1);
  remember();
  show();
}

function halt(upload) {
  upload.abort?.abort();
  upload.state = "paused";
  remember();
  card(upload);
}

function stop(upload) {
  halt(upload);
  next();
}

// Stops what is under way, as nobody is signed in any more.
export function stopAll() {
  uploads.filter((one) => ["waiting", "sending"].includes(one.state)).forEach(halt);
}

const begin = (upload) => {
  upload.state = "waiting";
  upload.error = "";
  upload.abort = null;
  show();
  next();
};

function next() {
  const free = FILES_AT_ONCE - uploads.filter((upload) => ["sending", "creating"].includes(upload.state)).length;
  for (const upload of uploads.filter((one) => one.state === "waiting").slice(0, free)) run(upload);
}

async function run(upload) {
  upload.state = "sending";
  const abort = (upload.abort = new AbortController());
  card(upload);
  try {
    const origin = await send(upload, abort.signal);
    const { id } = await insist("create-transcode", { body: { origin_url: origin, ...upload.order }, headers: { "Idempotency-Key": upload.key } });
    Object.assign(upload, { state: "done", task: id });
    changed();
  } catch (error) {
    // Other parts are not sent on: whoever goes on would send them twice.
    abort.abort();
    const refused = error.errcode && error.errcode !== REFUSED_KEY && !error.retryable;
    // Who was stopped says nothing of who goes on.
    if (error.name !== "AbortError" && upload.abort === abort) Object.assign(upload, { state: refused ? "failed" : "paused", error: error.message });
  }
  remember();
  if (uploads.includes(upload)) card(upload);
  next();
}

// Begins an upload, once: what nobody has the id of could not be gone on with, so the answer is waited for also where it is
// stopped, and whoever goes on by then waits for the same.
function created(upload) {
  const { name, size } = upload;
  upload.creation ??= insist("create-upload", { body: { name, size } })
    .then((known) => ((upload.id = known.upload_id), remember(), known))
    .finally(() => (upload.creation = null));
  return upload.creation;
}

// Sends what S3 does not have, and returns the address of the whole.
async function send(upload, signal) {
  const { file, size } = upload;
  let part = 1;
  const etags = [];
  let known = await (upload.id ? insist("create-upload", { body: { upload_id: upload.id }, signal }) : created(upload));
  signal.throwIfAborted();
  const count = Math.max(1, Math.ceil(size / known.part_size));
  upload.sent = 0;
  let [since, before] = [performance.now(), 0];
  const progress = (more) => {
    upload.sent += more;
    const now = performance.now();
    if (now - since > 500) {
      upload.rate = Math.max(0, (upload.sent - before) / ((now - since) / 1000)) || upload.rate;
      if (now - since > 5000) [since, before] = [now, upload.sent];
      refresh(upload);
    }
  };
  while (part <= count) {
    if (part > 1) known = await insist("create-upload", { body: { upload_id: upload.id, first_part: part }, signal });
    const first = part;
    const todo = known.urls.map((url, index) => ({ url, number: first + index, etag: known.etags[index] }));
    for (const one of todo.filter((one) => one.etag)) {
      etags[one.number - 1] = one.etag;
      upload.sent += length(one.number, size, known.part_size);
    }
    // What S3 has already says nothing of the speed.
    [since, before] = [performance.now(), upload.sent];
    const left = todo.filter((one) => !one.etag);
    const lane = async () => {
      for (let one = left.shift(); one; one = left.shift()) {
        signal.throwIfAborted();
        const start = (one.number - 1) * known.part_size;
        etags[one.number - 1] = await put(upload, one, file.slice(start, start + known.part_size), progress, signal);
      }
    };
    await Promise.all(Array.from({ length: PARTS_AT_ONCE }, lane));
    part += todo.length;
  }
  // From here on there is nothing to stop: S3 may have it as a whole already.
  upload.state = "creating";
  card(upload);
  const { origin_url } = await insist("complete-upload", { body: { upload_id: upload.id, etags } });
  return origin_url;
}

const length = (number, size, part) => Math.min(part, size - (number - 1) * part);

async function put(upload, part, blob, progress, signal) {
  for (let attempt = 0; ; attempt++) {
    let counted = 0;
    try {
      return await transfer(part.url, blob, (loaded) => (progress(loaded - counted), (counted = loaded)), signal);
    } catch (error) {
      progress(-counted);
      if (error.name === "AbortError" || attempt + 1 >= TRIES) throw error;
      await pause(2 ** attempt * 500, signal);
      // The URL may have expired.
      const again = await call("create-upload", { body: { upload_id: upload.id, first_part: part.number }, signal }).catch(() => null);
      if (again) part.url = again.urls[0];
    }
  }
}

// fetch tells nothing of how much it has sent.
function transfer(url, blob, onprogress, signal) {
  signal.throwIfAborted();
  return new Promise((done, failed) => {
    const request = new XMLHttpRequest();
    request.open("PUT", url);
    request.upload.onprogress = (event) => onprogress(event.loaded);
    request.onload = () => {
      const etag = request.getResponseHeader("ETag");
      if (request.status === 200 && etag) return onprogress(blob.size), done(etag);
      failed(new Error(`HTTP ${request.status}`));
    };
    request.onerror = () => failed(new Error(words.away));
    request.onabort = () => failed(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(blob);
  });
}

export function add(files, order) {
  for (const file of files) {
    const broken = uploads.find((one) => one.state === "paused" && one.name === file.name && one.size === file.size && one.modified === file.lastModified);
    if (broken) {
      broken.file = file;
      // Another order is another task.
      if (JSON.stringify(order) !== JSON.stringify(broken.order)) Object.assign(broken, { order, key: crypto.randomUUID() });
      begin(broken);
      continue;
    }
    const refused = file.size ? {} : { state: "failed", error: words.upload_empty };
    uploads.push({ file, name: file.name, size: file.size, modified: file.lastModified, order, key: crypto.randomUUID(), state: "waiting", sent: 0, ...refused });
  }
  show();
  next();
}

// `onchange` is called when a task was created.
export function restore(onchange) {
  changed = onchange;
  if (uploads.length) return;
  for (const kept of JSON.parse(localStorage.getItem(STORE) ?? "[]")) {
    uploads.push({ ...kept, state: "paused", sent: 0, error: "" });
  }
  show();
  addEventListener("beforeunload", (event) => {
    if (uploads.some((upload) => upload.state === "sending")) event.preventDefault();
  });
}
