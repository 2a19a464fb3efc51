// Plays one file or playlist and tells how it went. playback.py calls `play` once, then `look` and `read` as often as it likes.
"use strict";

const video = document.querySelector("video");
const errors = [];

// How each player gets a URL into the video element, with `buffer` seconds loaded ahead where that is not null. Each
// gives a function that chooses a rendition by its height, for what it loads from then on; null: as the player sees fit.
const players = {
  "hls.js"(url, buffer, giveUp) {
    // With little to load, it would not see in time that a network has become faster.
    const short = { maxBufferLength: buffer, maxMaxBufferLength: buffer, abrEwmaSlowVoD: Hls.DefaultConfig.abrEwmaFastVoD };
    const hls = new Hls(buffer === null ? {} : short);
    // It tells of a load that it gives up for a smaller rendition's, too, and of what that one covers again.
    const harmless = [Hls.ErrorDetails.INTERNAL_ABORTED, Hls.ErrorDetails.BUFFER_APPEND_NO_PROGRESS];
    hls.on(Hls.Events.ERROR, (_, data) => {
      if (harmless.includes(data.details) || (data.details === Hls.ErrorDetails.BUFFER_STALLED_ERROR && !lacksData())) return;
      errors.push(`hls.js: ${data.details}${data.fatal ? " (fatal)" : ""}: ${data.error?.message ?? data.reason ?? ""}`);
      if (data.fatal) giveUp();
    });
    hls.loadSource(url);
    hls.attachMedia(video);
    return (height) => (hls.nextLevel = hls.levels.findIndex((level) => level.height === height));
  },
  "dash.js"(url, buffer, giveUp) {
    const player = dashjs.MediaPlayer().create();
    player.on(dashjs.MediaPlayer.events.ERROR, ({ error }) => {
      errors.push(`dash.js: ${error.message ?? error} (code ${error.code})`);
      giveUp();
    });
    player.initialize(video, url, false);
    if (buffer !== null) {
      const limits = ["bufferTimeDefault", "bufferTimeAtTopQuality", "bufferTimeAtTopQualityLongForm"];
      player.updateSettings({ streaming: { buffer: Object.fromEntries(limits.map((name) => [name, buffer])) } });
    }
    return (height) => {
      player.updateSettings({ streaming: { abr: { autoSwitchBitrate: { video: height === null } } } });
      const chosen = player.getRepresentationsByType("video").find((representation) => representation.height === height);
      if (chosen) player.setRepresentationForTypeById("video", chosen.id);
    };
  },
  shaka(url, buffer, giveUp) {
    const player = new shaka.Player();
    const failed = (error) => giveUp(errors.push(`shaka: ${error.message} (code ${error.code})`));
    player.addEventListener("error", ({ detail }) => failed(detail));
    if (buffer !== null) player.configure("streaming.bufferingGoal", buffer);
    // It would move on by itself where the decoder of a busy machine lags.
    player.configure("streaming.stallEnabled", false);
    player.attach(video).then(() => player.load(url)).catch(failed);
    return (height) => {
      player.configure("abr.enabled", height === null);
      const chosen = player.getVariantTracks().find((track) => track.height === height);
      if (chosen) player.selectVariantTrack(chosen);
    };
  },
  chromium(url) {
    video.src = url;
  },
};

// When the page gave the decoder another codec, or took the video element from it: both show.
const resets = [];
const { changeType } = SourceBuffer.prototype;
SourceBuffer.prototype.changeType = function (type) {
  resets.push([video.currentTime, type]);
  return changeType.call(this, type);
};

// The frames that were shown: media time in seconds, height, and the number that is in the picture. Its top row has ten
// squares, the bits of the number, the least first: white is 1.
const shown = [];
const BITS = 10;
const squares = new OffscreenCanvas(BITS, 1).getContext("2d", { willReadFrequently: true });
squares.imageSmoothingEnabled = false;

function note(frame) {
  const { displayWidth, displayHeight } = frame;
  const side = displayWidth / BITS;
  squares.drawImage(frame, 0, 0.4 * side, displayWidth, 0.2 * side, 0, 0, BITS, 1);
  const { data } = squares.getImageData(0, 0, BITS, 1);
  let number = 0;
  for (let bit = 0; bit < BITS; bit++) number |= (data[4 * bit] > 127) << bit;
  shown.push([frame.timestamp / 1e6, displayHeight, number]);
}

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

// `changes` are made when their times are shown: of the height that is wanted, or of the network's bits a second.
async function play({ url, player, until, rate, patience, buffer, changes }) {
  let started = false;
  const stalls = [];
  const jumps = [];
  const coming = [...changes];
  await new Promise((done) => {
    setTimeout(() => {
      // On a busy machine the event of the end may be late.
      if (!(video.currentTime >= video.duration)) errors.push(`not at the end after ${patience} s, but at ${video.currentTime} s`);
      done();
    }, patience * 1000);
    video.onplaying = () => (started = true);
    // dash.js waits and seeks at the very end, where the browser has not told of it.
    const isOver = () => video.currentTime >= video.duration - 0.01;
    video.onwaiting = () => started && lacksData() && !isOver() && stalls.push(video.currentTime);
    video.onseeking = () => started && !isOver() && jumps.push(video.currentTime);
    video.onemptied = () => started && resets.push([video.currentTime, "emptied"]);
    video.onended = done;
    video.onerror = () => done(errors.push(`video: ${video.error.message} (code ${video.error.code})`));
    video.ontimeupdate = () => until !== null && video.currentTime >= until && done();
    const choose = players[player](url, buffer, done);
    const onframe = () => {
      const frame = new VideoFrame(video);
      note(frame);
      frame.close();
      while (coming.length && coming[0].at <= video.currentTime) {
        const { height, bit_rate } = coming.shift();
        if (bit_rate !== undefined) throttle(bit_rate);
        else choose(height);
      }
      video.requestVideoFrameCallback(onframe);
    };
    video.requestVideoFrameCallback(onframe);
    video.defaultPlaybackRate = video.playbackRate = rate;
    video.onloadedmetadata = () => video.play().catch((error) => done(errors.push(`play(): ${error.message}`)));
  });
  video.onwaiting = video.onseeking = video.onemptied = video.ontimeupdate = null;
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
    resets: [...resets],
    errors,
    width: video.videoWidth,
    height: video.videoHeight,
    frames: totalVideoFrames,
    dropped: droppedVideoFrames,
    shown: [...shown],
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
