// Plays one file or playlist and tells how it went. playback.py calls `play` once, then `look` and `read` as often as it likes.
"use strict";

const video = document.querySelector("video");
const errors = [];

// How the page gets each kind of target into the video element, by the extension of its path.
const attach = {
  m3u8(url, giveUp) {
    const hls = new Hls();
    hls.on(Hls.Events.ERROR, (_, data) => {
      errors.push(`hls.js: ${data.details}${data.fatal ? " (fatal)" : ""}: ${data.error?.message ?? data.reason ?? ""}`);
      if (data.fatal) giveUp();
    });
    hls.loadSource(url);
    hls.attachMedia(video);
  },
  mpd(url, giveUp) {
    const player = dashjs.MediaPlayer().create();
    player.on(dashjs.MediaPlayer.events.ERROR, ({ error }) => {
      errors.push(`dash.js: ${error.message ?? error} (code ${error.code})`);
      giveUp();
    });
    player.initialize(video, url, false);
  },
  mp4(url) {
    video.src = url;
  },
  webm(url) {
    video.src = url;
  },
};

// Whether the video waits for data: a busy machine has it wait for the decoder too, with all data there.
function lacksData() {
  for (let i = 0; i < video.buffered.length; i++) {
    const end = video.buffered.end(i);
    if (video.buffered.start(i) <= video.currentTime && video.currentTime < end) {
      return end < Math.min(video.currentTime + 0.5, video.duration - 0.1);
    }
  }
  return !video.ended;
}

async function play({ url, until, rate, patience }) {
  let started = false;
  const stalls = [];
  const jumps = [];
  await new Promise((done) => {
    setTimeout(() => done(errors.push(`not at the end after ${patience} s, but at ${video.currentTime} s`)), patience * 1000);
    video.onplaying = () => (started = true);
    video.onwaiting = () => started && lacksData() && stalls.push(video.currentTime);
    video.onseeking = () => started && jumps.push(video.currentTime);
    video.onended = done;
    video.onerror = () => done(errors.push(`video: ${video.error.message} (code ${video.error.code})`));
    video.ontimeupdate = () => until !== null && video.currentTime >= until && done();
    attach[new URL(url).pathname.split(".").pop()](url, done);
    video.defaultPlaybackRate = video.playbackRate = rate;
    video.play().catch((error) => done(errors.push(`play(): ${error.message}`)));
  });
  video.onwaiting = video.onseeking = video.ontimeupdate = null;
  video.pause();
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  let played = 0;
  for (let i = 0; i < video.played.length; i++) played += video.played.end(i) - video.played.start(i);
  const buffered = Array.from(video.buffered, (_, i) => [video.buffered.start(i), video.buffered.end(i)]);
  return {
    duration: video.duration,
    played,
    buffered,
    stalls,
    jumps,
    errors,
    width: video.videoWidth,
    height: video.videoHeight,
    frames: totalVideoFrames,
    dropped: droppedVideoFrames,
    sound_bytes: video.webkitAudioDecodedByteCount,
  };
}

async function seek(time) {
  const painted = new Promise((done) => video.requestVideoFrameCallback(done));
  await new Promise((done, failed) => {
    video.onseeked = done;
    setTimeout(() => failed(new Error(`no frame at ${time} s after 10 s`)), 10_000);
    video.currentTime = time;
  });
  // A busy machine shows the frame only now; one that is shown already is not shown again.
  await Promise.race([painted, new Promise((done) => setTimeout(done, 1000))]);
}

// The subtitles on the picture at `time`, as text.
async function read(time) {
  await seek(time);
  for (let tries = 0; tries < 50; tries++) {
    const cues = [...video.textTracks].filter((track) => track.mode === "showing").flatMap((track) => [...track.activeCues]);
    if (cues.length) return cues.map((cue) => cue.getCueAsHTML().textContent).join("\n");
    await new Promise((done) => setTimeout(done, 100));
  }
  return "";
}

// The mean colour of a region of the frame shown at `time`; the region's sides are fractions of the picture's.
async function look({ time, region: [left, top, right, bottom] }) {
  await seek(time);
  const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const x = Math.round(left * canvas.width);
  const y = Math.round(top * canvas.height);
  const width = Math.max(1, Math.round((right - left) * canvas.width));
  const height = Math.max(1, Math.round((bottom - top) * canvas.height));
  const { data } = context.getImageData(x, y, width, height);
  const sums = [0, 0, 0];
  data.forEach((value, i) => i % 4 < 3 && (sums[i % 4] += value));
  return sums.map((sum) => sum / (width * height));
}
