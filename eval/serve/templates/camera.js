// The camera: turned on when asked for, off when it is no longer needed; records a take after a countdown.
const preview = document.querySelector("#preview");
const viewfinder = document.querySelector(".viewfinder");
const off = document.querySelector("#camera-off");
const error = document.querySelector("#camera-error");
const countdown = document.querySelector("#countdown");
const record = document.querySelector("#record");
const again = document.querySelector("#again");
const microphone = document.querySelector("#microphone");

const LONGEST = 20;
const TYPES = ["video/mp4;codecs=avc1,mp4a.40.2", "video/webm;codecs=vp8,opus", "video/webm", "video/mp4"];
let stream = null;
let recorder = null;
let take = null;

const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

export const isOn = () => stream !== null;
export const chosenTake = () => take;
export const picture = preview;

function say(reason) {
  error.textContent = reason;
  error.hidden = !reason;
}

function why(problem) {
  const reasons = {
    NotAllowedError: "The browser may not use the camera: allow it for this page.",
    NotFoundError: "There is no camera.",
    NotReadableError: "Another program uses the camera.",
  };
  return reasons[problem.name] ?? `The camera cannot be used: ${problem.message}`;
}

// Gives whether it is on. Sound is only asked for where it is wanted; without a microphone there is none.
export async function turnOn(sound) {
  say("");
  if (!navigator.mediaDevices) {
    say(
      "Browsers lend the camera to pages of this machine or over https only: open this page as 127.0.0.1, " +
        "by a tunnel such as ssh -L 7860:127.0.0.1:7860.",
    );
    return false;
  }
  turnOff();
  const video = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 }, facingMode: "user" };
  try {
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video, audio: sound });
    } catch (problem) {
      if (!sound || problem.name !== "NotFoundError") throw problem;
      microphone.checked = false;
      stream = await navigator.mediaDevices.getUserMedia({ video });
    }
  } catch (problem) {
    say(why(problem));
    return false;
  }
  forget();
  preview.srcObject = stream;
  preview.muted = true;
  viewfinder.classList.add("mirrored");
  off.hidden = true;
  await preview.play();
  return true;
}

export function turnOff() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
  preview.srcObject = null;
  viewfinder.classList.remove("mirrored", "recording");
  off.hidden = false;
  record.disabled = true;
}

function forget() {
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.removeAttribute("src");
  preview.controls = false;
  take = null;
}

async function count(from) {
  countdown.hidden = false;
  for (let left = from; left > 0; left -= 1) {
    countdown.textContent = left;
    await wait(1);
  }
}

// Records until stopped, or for 20 s; `taken` is called when there is a take, `told` with what to say of it.
export async function recordTake(told, taken) {
  if (recorder) return recorder.stop();
  record.disabled = true;
  told("Recording begins in three seconds");
  await count(3);
  if (!stream) return;
  const type = TYPES.find((one) => MediaRecorder.isTypeSupported(one)) ?? "";
  const parts = [];
  recorder = new MediaRecorder(stream, { mimeType: type, videoBitsPerSecond: 4e6 });
  recorder.addEventListener("dataavailable", ({ data }) => parts.push(data));
  const began = performance.now();
  const clock = setInterval(() => {
    const left = LONGEST - (performance.now() - began) / 1000;
    countdown.textContent = `${Math.max(0, Math.ceil(left))} s`;
    if (left <= 0 && recorder?.state === "recording") recorder.stop();
  }, 100);
  recorder.addEventListener("stop", () => {
    clearInterval(clock);
    countdown.hidden = true;
    const kind = recorder.mimeType.startsWith("video/mp4") ? "mp4" : "webm";
    recorder = null;
    turnOff();
    take = new File(parts, `recording.${kind}`, { type: parts[0]?.type });
    off.hidden = true;
    preview.src = URL.createObjectURL(take);
    preview.muted = false;
    preview.controls = true;
    record.hidden = true;
    record.textContent = "Record";
    again.hidden = false;
    told("Recorded");
    taken();
  });
  recorder.start();
  viewfinder.classList.add("recording");
  record.textContent = "Stop";
  record.disabled = false;
  told("Recording");
}

// Whatever is being done is given up: another way was chosen.
export function giveUp() {
  if (recorder) recorder.stop();
  turnOff();
  forget();
  record.hidden = false;
  again.hidden = true;
}

export function ready() {
  record.hidden = false;
  record.disabled = false;
  again.hidden = true;
}
