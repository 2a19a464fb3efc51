// The console: its views, and which of them the address shows.

import { call, forgetKey, hasKey, insist, onRefused, pause, setKey } from "./api.js";
import { ask, h, icon, tell } from "./dom.js";
import { canPlay, player } from "./player.js";
import { add, restore, stopAll } from "./uploads.js";
import { bitRate, bytes, called, date, language, number, ordered, time, words } from "./words.js";

const PAGE = 15;
const SOON = 2000;
const LATER = 15_000;
// A page that nobody sees.
const HIDDEN = 60_000;
const LONGEST = 60_000;

// The formats, and the codecs that may be chosen for each, the default first.
const GROUPS = {
  group_stream: { m3u8: ["h264", "hevc", "av1"], mpd: ["h264", "hevc", "av1"] },
  group_file: { mp4: ["h264", "hevc", "av1"], mov: ["h264", "hevc", "av1"], mkv: ["h264", "hevc", "av1"], webm: ["vp9", "av1"], ts: [], flv: [], gif: [] },
  group_sound: { mp3: [], m4a: [], ogg: [], wav: [] },
};
const FORMATS = Object.assign({}, ...Object.values(GROUPS));
const PAIRS = ["h264,av1", "h264,hevc"];
const CODECS = { h264: "H.264", hevc: "HEVC", av1: "AV1", vp9: "VP9", "h264,av1": "H.264 + AV1", "h264,hevc": "H.264 + HEVC" };
const NAMES = [[/^avc1/, "H.264"], [/^hvc1|^hev1/, "HEVC"], [/^av01/, "AV1"], [/^vp09/, "VP9"], [/^mp4a/, "AAC"], [/^opus/i, "Opus"]];
const ADAPTIVE = 6;
const ADAPTIVE_FORMATS = new Set(["m3u8", "mpd"]);

const main = document.getElementById("main");
const unfinished = (task) => task.status < 2;
const name = (task) => decodeURIComponentSafe(task.origin_url.split(/[?#]/)[0].split("/").filter(Boolean).pop() ?? task.origin_url);
const folder = (task) => task.origin_url.split(/[?#]/)[0].replace(/[^/]*\/?$/, "");
const decodeURIComponentSafe = (text) => {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
};

// ---------------------------------------------------------------------------------------------- views

// What the present view leaves behind: a signal that ends its polling, and what it closes.
let view = new AbortController();

function enter(title) {
  view.abort();
  view = new AbortController();
  document.title = title ? `${title} · ${words.title}` : words.title;
  return view.signal;
}

function route() {
  const [path, query] = location.hash.slice(1).split("?");
  bar();
  if (!hasKey()) return keyView();
  if (path.startsWith("/tasks/")) return taskView(path.slice("/tasks/".length), query === "play");
  if (path === "/new") return newView(new URLSearchParams(query));
  return listView(Math.max(1, Number(new URLSearchParams(query).get("page")) || 1));
}

function bar() {
  document.getElementById("skip").textContent = words.skip;
  const here = location.hash.slice(1);
  const link = (href, text, current) => h("a", { href, "aria-current": current ? "page" : undefined }, text);
  document.getElementById("bar").replaceChildren(
    h("a.brand", { href: "#/", "aria-label": words.title }, h("img", { src: "console/icon.svg", alt: "", width: 28, height: 28 }), h("span", {}, words.title)),
    ...(hasKey()
      ? [
          h("nav", { "aria-label": words.title }, link("#/", words.tasks, !here.startsWith("/new")), link("#/new", words.new_task, here.startsWith("/new"))),
          h("button.plain.small", { onclick: () => (stopAll(), forgetKey(), route()) }, words.forget_key),
        ]
      : []),
  );
}

function keyView(wrong = false) {
  enter(words.key_title);
  const field = h("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: false, "aria-describedby": "where", "aria-invalid": wrong || undefined });
  const error = h("p.note.bad", { role: "alert", hidden: !wrong }, words.key_wrong);
  const submit = async (event) => {
    event.preventDefault();
    setKey(field.value.trim());
    try {
      // What is not ASCII cannot be sent, and is no key.
      if (!/^[!-~]+$/.test(field.value.trim())) throw Object.assign(new Error(), { errcode: 1403 });
      await call("get-transcodes", { query: { page: 1, limit: 1 } });
      restore(created);
      route();
    } catch (failure) {
      forgetKey();
      error.hidden = false;
      error.textContent = failure.errcode === 1403 ? words.key_wrong : failure.errcode ? failure.message : words.no_answer;
      field.setAttribute("aria-invalid", "true");
      field.focus();
    }
  };
  main.replaceChildren(
    h("form.card.sign-in", { onsubmit: submit },
      h("h1", {}, words.key_title),
      h("p", {}, words.key_lead),
      h("label", { htmlFor: "key" }, words.key_label),
      field,
      error,
      h("button.primary", {}, words.key_enter),
      h("p.hint", { id: "where" }, words.key_where)),
  );
  field.focus();
}

onRefused(() => {
  forgetKey();
  bar();
  keyView(true);
});

// Asks until the view is left: soon while something changes, seldom while nobody looks, ever later after errors.
async function poll(signal, look) {
  let failures = 0;
  const trouble = h("p.note.bad", { role: "status" });
  while (!signal.aborted) {
    let wait;
    try {
      wait = (await look()) ? SOON : LATER;
      failures = 0;
      trouble.remove();
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      if (!error.retryable) return void main.replaceChildren(h("p.note.bad", { role: "alert" }, error.message), h("p", {}, h("a", { href: "#/" }, words.back)));
      failures += 1;
      wait = Math.min(LONGEST, SOON * 2 ** failures);
      trouble.textContent = error.errcode === 1429 ? words.throttled : words.away;
      main.prepend(trouble);
    }
    await waited(wait, signal);
  }
}

// Waits so long; longer while the page is hidden, and no longer once it is shown again.
async function waited(milliseconds, signal) {
  if (!document.hidden) return pause(milliseconds, signal).catch(() => {});
  const shown = new Promise((done) => document.addEventListener("visibilitychange", done, { once: true, signal }));
  await Promise.race([pause(HIDDEN, signal).catch(() => {}), shown]);
}

function badge(task) {
  return h(`span.badge.s${task.status < 0 ? 0 : task.status}`, {}, words.status[task.status]);
}

function state(task) {
  const parts = [badge(task)];
  if (task.status === 1) parts.push(h("progress", { max: 1, value: task.progress, "aria-label": words.status[1] }), h("span.percent", {}, `${Math.floor(task.progress * 100)} %`));
  return h("div.state", {}, parts);
}

// ---------------------------------------------------------------------------------------------- the list

const chosen = new Set();

function listView(page) {
  const signal = enter(words.tasks);
  chosen.clear();
  const body = h("div.rows", { role: "rowgroup" });
  const all = h("input", { type: "checkbox", "aria-label": words.select_all });
  const total = h("span.total", {});
  const remove = h("button.danger.small", { hidden: true });
  const pages = h("nav.pages", { "aria-label": words.tasks });
  const table = h("div.table.card", { role: "table", "aria-label": words.tasks },
    h("div.row.head", { role: "row" },
      h("span", { role: "columnheader" }, all),
      ...["col_source", "col_state", "col_result", "col_created"].map((key) => h("span", { role: "columnheader" }, words[key]))),
    body);
  const empty = h("section.empty.card", {}, h("h2", {}, words.empty_title), h("p", {}, words.empty_lead), h("a.button.primary", { href: "#/new" }, words.new_task));
  const place = h("div", {}, h("p.hint.loading", {}, words.loading));
  main.replaceChildren(h("div.headline", {}, h("h1", {}, words.tasks), total, remove, h("a.button.primary", { href: "#/new" }, words.new_task)), place, pages);
  let tasks = [];

  const count = () => {
    remove.hidden = !chosen.size;
    remove.textContent = `${words.delete} (${words.selected(chosen.size)})`;
    all.checked = tasks.length > 0 && tasks.every((task) => chosen.has(task.id));
    all.indeterminate = chosen.size > 0 && !all.checked;
  };
  const choose = (id, on) => (on ? chosen.add(id) : chosen.delete(id), count());
  all.onchange = () => {
    const on = all.checked;
    for (const box of body.querySelectorAll("input")) choose(box.value, (box.checked = on));
  };
  remove.onclick = async () => {
    const ids = [...chosen];
    if (await deleted(ids, words.delete_many(ids.length))) listView(page);
  };

  // A row that has not changed stays as it is, and so does the focus in it.
  const rows = new Map();
  const row = (task) => {
    const shown = JSON.stringify(task);
    const before = rows.get(task.id);
    if (before?.shown === shown) return before.element;
    const focused = before?.element.contains(document.activeElement) ? document.activeElement.className : null;
    const element = h("div.row", { role: "row" },
      h("span", { role: "cell" }, h("input.pick", { type: "checkbox", value: task.id, checked: chosen.has(task.id), "aria-label": words.select(name(task)), onchange: (event) => choose(task.id, event.target.checked) })),
      h("span.source", { role: "cell" }, h("a.title", { href: `#/tasks/${task.id}`, title: task.origin_url }, name(task)), task.status === 3 ? h("span.why", { lang: "en", title: task.error_info }, task.error_info) : h("span.where", {}, `${task.id} · ${folder(task)}`)),
      h("span", { role: "cell" }, state(task)),
      h("span.order", { role: "cell" }, ordered(task)),
      h("span.when", { role: "cell" }, h("time", { dateTime: task.created_at }, date(task.created_at))));
    rows.set(task.id, { shown, element });
    if (focused) queueMicrotask(() => element.querySelector(`.${focused}`)?.focus());
    return element;
  };
  poll(signal, async () => {
    const answer = await call("get-transcodes", { query: { page, limit: PAGE }, signal });
    if (signal.aborted) return false;
    tasks = answer.results;
    for (const id of chosen) if (!tasks.some((task) => task.id === id)) chosen.delete(id);
    const elements = tasks.map(row);
    if (elements.length !== body.children.length || elements.some((one, index) => body.children[index] !== one)) body.replaceChildren(...elements);
    total.textContent = words.count(answer.count);
    const [what] = place.children;
    const wanted = answer.count ? table : empty;
    if (what !== wanted) place.replaceChildren(wanted);
    const last = Math.max(1, Math.ceil(answer.count / PAGE));
    if (page > last) return void (location.hash = `#/?page=${last}`);
    const link = (to, text, possible) => (possible ? h("a.button.small", { href: `#/?page=${to}` }, text) : h("span.button.small.off", { "aria-disabled": "true" }, text));
    const jump = h("input", { type: "number", min: 1, max: last, value: page, "aria-label": words.go_to_page, onchange: () => (location.hash = `#/?page=${Math.min(last, Math.max(1, Math.floor(jump.value) || 1))}`) });
    const links = [link(page - 1, words.newer, page > 1), h("label", {}, words.page_before, jump, words.page_after(last)), link(page + 1, words.older, page < last)];
    if (pages.dataset.shown !== `${page}/${last}`) pages.replaceChildren(...(last > 1 ? links : []));
    pages.dataset.shown = `${page}/${last}`;
    count();
    return tasks.some(unfinished);
  });
}

async function deleted(ids, question) {
  if (!(await ask(question, words.delete_lead(ids.length), words.delete, words.cancel))) return false;
  try {
    await (ids.length === 1 ? insist("delete-transcode", { body: { id: ids[0] } }) : insist("delete-transcodes", { body: { ids: ids.join(",") } }));
  } catch (error) {
    tell(error.message || words.away, "bad");
    return false;
  }
  tell(words.deleted(ids.length));
  return true;
}

// ---------------------------------------------------------------------------------------------- one task

const advice = (code) => words.error_advice[code] ?? words.error_advice[Math.floor(code / 1000)] ?? words.error_advice[3];

function taskView(id, plays) {
  const signal = enter(id);
  let watched = null;
  signal.addEventListener("abort", () => watched?.close());
  main.replaceChildren(h("p.hint.loading", {}, words.loading));
  let shown = "";
  poll(signal, async () => {
    const { transcoding: task } = await call("get-transcode", { query: { id }, signal });
    if (signal.aborted) return false;
    const now = JSON.stringify(task);
    if (now === shown) return unfinished(task);
    document.title = `${name(task)} · ${words.title}`;
    const progress = main.querySelector(".lead progress");
    if (shown && task.status === 1 && progress) {
      progress.value = task.progress;
      main.querySelector(".lead .percent").textContent = `${Math.floor(task.progress * 100)} %`;
    } else {
      watched?.close();
      watched = task.status === 2 && canPlay(task.format) ? player(task, plays) : null;
      const focused = main.contains(document.activeElement) ? document.activeElement.textContent : "";
      main.replaceChildren(...taskParts(task, watched));
      // What is pressed stays in the keyboard's reach.
      if (focused) [...main.querySelectorAll("button, a")].find((one) => one.textContent === focused)?.focus();
    }
    shown = now;
    return unfinished(task);
  });
}

function taskParts(task, watched) {
  const remove = h("button.danger", { hidden: task.status === 4, onclick: async () => (await deleted([task.id], words.delete_one(name(task)))) && (location.hash = "#/") }, words.delete);
  const again = h("a.button", { href: `#/new?${new URLSearchParams({ address: task.origin_url, format: task.format, quality: task.task_config_temp_id })}` }, words.again);
  const copy = h("button", { onclick: () => navigator.clipboard.writeText(task.target_url).then(() => tell(words.copied), () => tell(task.target_url)) }, words.copy_url);
  const succeeded = task.status === 2;
  const parts = [
    h("a.back", { href: "#/" }, icon("back"), words.back),
    h("div.headline", {}, h("h1", {}, name(task)), h("div.actions", {}, succeeded ? [copy, h("a.button", { href: task.target_url, target: "_blank", rel: "noopener" }, ADAPTIVE_FORMATS.has(task.format) ? words.open_url : words.download)] : [unfinished(task) ? null : again], remove)),
    h("div.lead", { "aria-live": "polite" }, state(task), h("span.hint", {}, words.status_long[task.status])),
  ];
  if (task.status === 3) {
    parts.push(h("section.card.failed", {},
      h("h2", {}, words.what_happened), h("p", { lang: "en" }, task.error_info), h("p.hint", {}, `error_code ${task.error_code}`),
      h("h2", {}, words.what_to_do), h("p", {}, advice(task.error_code))));
  }
  if (succeeded) parts.push(watched ? watched.element : h("p.note", {}, words.no_preview));
  const { output } = task;
  const renditions = output?.renditions ?? [];
  if (renditions.length) parts.push(h("section.card", {}, h("h2", {}, words.renditions), renditionTable(renditions)));
  const facts = [
    [words.fact_length, output && `${time(output.duration)}`],
    [words.fact_size, output && bytes(output.bytes)],
    [words.fact_order, ordered(task)],
    [words.fact_source, h("code", {}, task.origin_url)],
    [words.fact_result, task.target_url && h("code", {}, task.target_url)],
    [words.fact_id, h("code", {}, task.id)],
    [words.fact_created, date(task.created_at)],
    [words.fact_updated, date(task.updated_at)],
  ];
  parts.push(h("section.card", {}, h("h2", {}, words.facts), h("dl", {}, facts.filter(([, value]) => value).map(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]))));
  return parts;
}

function renditionTable(renditions) {
  const heads = ["col_picture", "col_codec", "col_rate", "col_average", "col_peak"];
  const cells = (one) => [
    one.width ? `${one.width} × ${one.height}` : words.sound_only,
    h("span", { title: one.codec }, NAMES.find(([pattern]) => pattern.test(one.codec))?.[1] ?? one.codec),
    one.frame_rate ? number(one.frame_rate) : "",
    bitRate(one.bit_rate),
    bitRate(one.peak_bit_rate),
  ];
  return h("div.scroll", { tabIndex: 0, role: "region", "aria-label": words.renditions },
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((key) => h("th", { scope: "col" }, words[key])))), h("tbody", {}, renditions.map((one) => h("tr", {}, cells(one).map((cell) => h("td", {}, cell)))))));
}

// ---------------------------------------------------------------------------------------------- a new task

function newView(given) {
  enter(words.new_task);
  const option = (value, text, selected) => h("option", { value, selected }, text);
  const last = JSON.parse(sessionStorage.getItem("transcoding-order") ?? "{}");
  const wanted = { format: given.get("format") ?? last.format ?? "m3u8", quality: Number(given.get("quality") ?? last.quality ?? ADAPTIVE), codec: last.codec ?? "h264", thumbnails: last.thumbnails ?? true };
  const format = h("select", { id: "format" }, Object.entries(GROUPS).map(([group, formats]) => h("optgroup", { label: words[group] }, Object.keys(formats).map((one) => option(one, called(one), one === wanted.format)))));
  const quality = h("select", { id: "quality" });
  const qualityField = h("div.field", {}, h("label", { htmlFor: "quality" }, words.quality), quality);
  const codec = h("select", { id: "codec" });
  const codecField = h("div.field", {}, h("label", { htmlFor: "codec" }, words.codec), codec);
  const pictures = h("input", { type: "checkbox", id: "pictures", checked: wanted.thumbnails });
  const picturesField = h("label.check", { htmlFor: "pictures" }, pictures, words.thumbnails);
  const fill = () => {
    const sound = format.value in GROUPS.group_sound;
    const kept = wanted.quality;
    const qualities = sound ? [5] : ADAPTIVE_FORMATS.has(format.value) ? [6, 4, 3, 2, 1, 5] : [5, 4, 3, 2, 1];
    quality.replaceChildren(...qualities.map((one) => option(one, words.quality_names[one], one === kept)));
    const codecs = [...FORMATS[format.value], ...(Number(quality.value) === ADAPTIVE ? PAIRS : [])];
    const before = codec.value || wanted.codec;
    codec.replaceChildren(...codecs.map((one) => option(one, CODECS[one], one === before)));
    codecField.hidden = codecs.length < 2;
    qualityField.hidden = sound;
    picturesField.hidden = sound || format.value === "gif";
  };
  format.onchange = fill;
  quality.onchange = () => ((wanted.quality = Number(quality.value)), fill());
  fill();
  const order = () => {
    const made = { format: format.value, task_config_temp_id: Number(quality.value) };
    if (!codecField.hidden) made.codec = codec.value;
    if (!picturesField.hidden) made.thumbnails = pictures.checked;
    sessionStorage.setItem("transcoding-order", JSON.stringify({ format: format.value, quality: Number(quality.value), codec: codec.value, thumbnails: pictures.checked }));
    return made;
  };

  const files = h("input", { type: "file", id: "files", multiple: true, onchange: () => (add(files.files, order()), (files.value = "")) });
  const drop = h("label.drop", { htmlFor: "files" }, icon("up"), h("strong", {}, words.drop_title), h("span", {}, words.drop_or), files);
  for (const kind of ["dragenter", "dragover"]) drop.addEventListener(kind, (event) => (event.preventDefault(), drop.classList.add("over")));
  for (const kind of ["dragleave", "drop"]) drop.addEventListener(kind, () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => (event.preventDefault(), add(event.dataTransfer.files, order())));

  const address = h("input", { id: "address", type: "text", inputMode: "url", value: given.get("address") ?? "", placeholder: "s3://…  https://…", spellcheck: false, autocomplete: "off", "aria-describedby": "address-hint address-error" });
  const error = h("p.note.bad", { id: "address-error", role: "alert", hidden: true });
  const start = h("button.primary", {}, words.start);
  let key = crypto.randomUUID();
  const submit = async (event) => {
    event.preventDefault();
    error.hidden = true;
    start.disabled = true;
    try {
      if (!address.value.trim()) throw new Error(words.address_missing);
      if (!/^(s3|https?):\/\//.test(address.value.trim())) throw new Error(words.address_wrong);
      const { id } = await insist("create-transcode", { body: { origin_url: address.value.trim(), ...order() }, headers: { "Idempotency-Key": key } });
      tell(words.started);
      location.hash = `#/tasks/${id}`;
    } catch (failure) {
      // What was refused made no task: the next try is another order.
      key = crypto.randomUUID();
      error.textContent = failure.message || words.away;
      error.hidden = false;
      address.focus();
    }
    start.disabled = false;
  };
  main.replaceChildren(
    h("a.back", { href: "#/" }, icon("back"), words.back),
    h("h1", {}, words.new_task), h("p.hint", {}, words.new_lead),
    h("form.new", { onsubmit: submit },
      h("section.card.settings", {},
        h("div.field", {}, h("label", { htmlFor: "format" }, words.format), format),
        qualityField, codecField, picturesField),
      h("section.card", {}, drop),
      h("section.card", {},
        h("div.field", {}, h("label", { htmlFor: "address" }, words.address), address, h("p.hint", { id: "address-hint" }, words.address_hint)),
        error, start)),
  );
}

// A task was created beside what is shown.
function created() {
  if (location.hash === "" || location.hash.startsWith("#/?") || location.hash === "#/") route();
}

// A file that is dropped beside the place for it would replace the page.
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
document.documentElement.lang = language;
addEventListener("hashchange", () => (route(), main.focus({ preventScroll: true }), scrollTo(0, 0)));
if (hasKey()) restore(created);
route();
