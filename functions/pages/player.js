// A player of all that browsers play: HLS and DASH by Shaka Player, files and sound by the browser itself. Its seek bar
// shows the thumbnails of a WebVTT file.

import { h, icon } from "./dom.js";
import { time, words } from "./words.js";

const STREAMS = new Set(["m3u8", "mpd"]);
const FILES = new Set(["mp4", "mov", "webm"]);
const SOUNDS = new Set(["mp3", "m4a", "ogg", "wav"]);

export const canPlay = (format) => STREAMS.has(format) || FILES.has(format) || SOUNDS.has(format) || format === "gif";

let loading;
const library = () =>
  (loading ??= new Promise((done, failed) => {
    document.head.append(h("script", { src: "console/shaka-player.js", onload: done, onerror: () => failed(new Error("shaka-player.js")) }));
  }));

const STEP = 5;

// `plays`: it begins by itself, without sound, which browsers allow.
export function player(task, plays) {
  const { target_url: url, format, output } = task;
  if (format === "gif") return { element: h("img.gif", { src: url, alt: "" }), close() {} };
  const sound = SOUNDS.has(format);
  const video = h("video", { playsInline: true, preload: "metadata", autoplay: plays, muted: plays, poster: output?.poster_url || undefined, tabIndex: 0, "aria-label": url.split("/").pop() });
  const failure = h("p.note.bad", { hidden: true, role: "alert" });
  const fail = (reason) => ((failure.hidden = false), (failure.textContent = `${words.player_failed}: ${reason}`));
  video.addEventListener("error", () => fail(video.error?.message || video.error?.code));

  const toggle = h("button.control", { onclick: () => (video.paused ? video.play() : video.pause()) });
  const seek = h("input.seek", { type: "range", min: 0, max: 0, step: "any", value: 0, "aria-label": words.seek });
  const clock = h("span.clock", {});
  const mute = h("button.control", { onclick: () => (video.muted = !video.muted) });
  const quality = h("select", { "aria-label": words.quality, hidden: true });
  const texts = h("select", { "aria-label": words.subtitles, hidden: true });
  const full = h("button.control", { "aria-label": words.fullscreen, title: words.fullscreen, hidden: sound, onclick: () => (document.fullscreenElement ? document.exitFullscreen() : element.requestFullscreen()) }, icon("full"));
  const preview = h("div.preview", { hidden: true }, h("div.tile", {}), h("span", {}));
  const element = h(sound ? "div.player.sound" : "div.player", { "aria-label": words.play, role: "group" },
    h("div.picture", { onclick: (event) => event.target === video && toggle.click() }, video),
    h("div.controls", {}, toggle, h("div.track", {}, seek, preview), clock, mute, quality, texts, full),
  );

  const draw = () => {
    const paused = video.paused || video.ended;
    toggle.replaceChildren(icon(paused ? "play" : "pause"));
    toggle.setAttribute("aria-label", paused ? words.play : words.pause);
    mute.replaceChildren(icon(video.muted ? "mute" : "sound"));
    mute.setAttribute("aria-label", video.muted ? words.unmute : words.mute);
  };
  const move = () => {
    const length = Number.isFinite(video.duration) ? video.duration : 0;
    seek.max = length;
    seek.value = video.currentTime;
    seek.setAttribute("aria-valuetext", `${time(video.currentTime)} / ${time(length)}`);
    seek.style.setProperty("--done", length ? video.currentTime / length : 0);
    clock.textContent = `${time(video.currentTime)} / ${time(length)}`;
  };
  for (const name of ["play", "pause", "ended", "volumechange"]) video.addEventListener(name, draw);
  for (const name of ["timeupdate", "durationchange", "seeked"]) video.addEventListener(name, move);
  seek.addEventListener("input", () => (video.currentTime = Number(seek.value)));
  element.addEventListener("keydown", (event) => {
    if (event.target === seek || event.target.tagName === "SELECT") return;
    const act = {
      ArrowRight: () => (video.currentTime += STEP),
      ArrowLeft: () => (video.currentTime -= STEP),
      m: () => mute.click(),
      f: () => full.click(),
      " ": event.target === video && (() => toggle.click()),
    }[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  draw();
  move();

  let shaka = null;
  let closed = false;
  const start = async () => {
    if (!STREAMS.has(format)) return void (video.src = url);
    await library();
    if (closed) return;
    shaka = new window.shaka.Player();
    // Text is loaded from the beginning on, and shown when it is chosen: Shaka never shows what is chosen only after all of
    // a short film is loaded, as it learns where text belongs from the pictures that come after it.
    shaka.addEventListener("streaming", () => {
      const [text] = shaka.getTextTracks();
      if (text) shaka.configure("preferredText", [{ language: text.language }]);
    });
    shaka.addEventListener("error", ({ detail }) => detail.severity === 2 && fail(`Shaka ${detail.code}`));
    shaka.setVideoContainer(video.parentElement);
    await shaka.attach(video);
    await shaka.load(url);
    choices();
  };
  const choices = () => {
    const heights = [...new Set(shaka.getVariantTracks().map((track) => track.height).filter(Boolean))].sort((a, b) => b - a);
    quality.hidden = heights.length < 2;
    quality.replaceChildren(h("option", { value: "" }, words.automatic), ...heights.map((height) => h("option", { value: height }, `${height}p`)));
    quality.onchange = () => {
      shaka.configure("abr.enabled", !quality.value);
      const track = shaka.getVariantTracks().filter((one) => String(one.height) === quality.value).sort((a, b) => a.bandwidth - b.bandwidth)[0];
      if (track) shaka.selectVariantTrack(track, true);
    };
    const tracks = shaka.getTextTracks();
    texts.hidden = !tracks.length;
    texts.replaceChildren(h("option", { value: "" }, words.off), ...tracks.map((track) => h("option", { value: track.id }, track.label || (track.language === "und" ? words.subtitles : track.language))));
    texts.onchange = () => {
      const track = shaka.getTextTracks().find((one) => String(one.id) === texts.value);
      if (track && !track.active) shaka.selectTextTrack(track);
      element.classList.toggle("text", Boolean(track));
    };
  };

  if (output?.thumbnails_url) thumbnails(output.thumbnails_url).then((tiles) => hover(tiles), () => {});
  function hover(tiles) {
    const at = (event) => {
      const box = seek.getBoundingClientRect();
      const share = Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
      show(share * (video.duration || 0), share * box.width, box.width);
    };
    const show = (seconds, x, width) => {
      const tile = tiles.find((one) => seconds < one.end) ?? tiles.at(-1);
      if (!tile) return;
      const [picture, label] = preview.children;
      picture.style.width = `${tile.width}px`;
      picture.style.height = `${tile.height}px`;
      picture.style.backgroundImage = `url("${tile.url}")`;
      picture.style.backgroundPosition = `${-tile.x}px ${-tile.y}px`;
      label.textContent = time(seconds);
      preview.hidden = false;
      const half = tile.width / 2 + 6;
      preview.style.left = `${Math.min(Math.max(x, half), Math.max(half, width - half))}px`;
    };
    seek.addEventListener("pointermove", at);
    seek.addEventListener("pointerleave", () => (preview.hidden = true));
    seek.addEventListener("input", () => {
      const width = seek.getBoundingClientRect().width;
      show(Number(seek.value), (Number(seek.value) / (video.duration || 1)) * width, width);
    });
    seek.addEventListener("blur", () => (preview.hidden = true));
  }

  start().catch((error) => fail(error.code ? `Shaka ${error.code}` : error.message));
  return {
    element: h("div", {}, element, failure),
    close() {
      closed = true;
      video.pause();
      if (shaka) shaka.destroy();
      else video.removeAttribute("src");
    },
  };
}

// The tiles of a WebVTT file whose cues name regions of pictures (#xywh=, W3C Media Fragments), in order.
async function thumbnails(url) {
  const text = await (await fetch(url)).text();
  const seconds = (stamp) => stamp.split(":").reduce((sum, part) => 60 * sum + Number(part), 0);
  const cue = /([\d:.]+) --> ([\d:.]+).*\n(\S+)#xywh=(\d+),(\d+),(\d+),(\d+)/g;
  return [...text.matchAll(cue)].map(([, start, end, name, x, y, width, height]) => ({
    start: seconds(start), end: seconds(end), url: new URL(name, url).href, x: Number(x), y: Number(y), width: Number(width), height: Number(height),
  }));
}
