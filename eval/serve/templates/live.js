// Live mode: pictures go to the server while a key or the button is held, so that little is left to do after it.
import { isOn, picture } from "./camera.js";
import { sendPictures, start } from "./server.js";
import { chosenVoice } from "./voice.js";

const button = document.querySelector("#hold");
const viewfinder = document.querySelector(".viewfinder");
const canvas = document.createElement("canvas");
const PICTURE_MS = 40;
const CHUNK_MS = 200;
const LONGEST_MS = 20_000;
const WIDTH = 480;

let held = null;
let audio = null;
export let released = 0;

const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const jpeg = () =>
  new Promise((resolve) => {
    const scale = Math.min(1, WIDTH / picture.videoWidth);
    canvas.width = Math.round(picture.videoWidth * scale);
    canvas.height = Math.round(picture.videoHeight * scale);
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    canvas.toBlob(resolve, "image/jpeg", 0.85);
  });

// Each picture with its time and its bytes before it.
async function packed(pictures) {
  const parts = [];
  for (const { at, made } of pictures) {
    const blob = await made;
    if (!blob) continue;
    const head = new DataView(new ArrayBuffer(8));
    head.setUint32(0, Math.round(at), true);
    head.setUint32(4, blob.size, true);
    parts.push(head.buffer, blob);
  }
  return new Blob(parts);
}

async function hold(asked, failed) {
  if (held || !isOn() || button.disabled) return;
  const holding = { pictures: [] };
  holding.over = new Promise((resolve) => {
    holding.end = resolve;
  });
  held = holding;
  button.classList.add("held");
  button.textContent = "Let go to hear it";
  viewfinder.classList.add("holding");
  audio ??= new AudioContext(); // has the browser open the loudspeaker, which can take seconds, before there is speech
  asked();
  const began = performance.now();
  const look = () => {
    const at = performance.now() - began;
    if (at > LONGEST_MS) return release();
    holding.pictures.push({ at, made: jpeg() });
  };
  look();
  const clock = setInterval(look, PICTURE_MS);
  try {
    await start({ live: true, voice: await chosenVoice(() => {}) });
    while (held === holding) {
      await Promise.race([wait(CHUNK_MS), holding.over]);
      if (held !== holding) break;
      await sendPictures(await packed(holding.pictures.splice(0)), false);
    }
    clearInterval(clock);
    await sendPictures(await packed(holding.pictures.splice(0)), true);
  } catch (problem) {
    failed(problem);
  } finally {
    clearInterval(clock);
    release();
  }
}

function release() {
  if (!held) return;
  held.end();
  held = null;
  released = performance.now();
  button.classList.remove("held");
  button.textContent = "Hold, and mouth words";
  viewfinder.classList.remove("holding");
}

// `asked` is called when an utterance begins, `failed` with what went wrong. One at a time: while the server is at the
// last one, pressing does nothing.
export function listen(isLive, isBusy, asked, failed) {
  const press = () => isBusy() || hold(asked, failed);
  button.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    button.setPointerCapture(event.pointerId);
    press();
  });
  for (const name of ["pointerup", "pointercancel", "blur"]) button.addEventListener(name, release);
  button.addEventListener("contextmenu", (event) => event.preventDefault());
  addEventListener("blur", release);
  const isKey = ({ code, target }) =>
    isLive() &&
    ((code === "Space" && !target.closest?.("input, select, textarea, a, audio, video, button:not(#hold)")) ||
      (code === "Enter" && target === button));
  addEventListener("keydown", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    if (!event.repeat) press();
  });
  addEventListener("keyup", (event) => {
    if (!isKey(event)) return;
    event.preventDefault();
    release();
  });
}
