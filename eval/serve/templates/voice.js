// In whose voice: that of the video, of a speaker of the corpus, or of another file, which is sent when it is needed.
import { upload } from "./server.js";

const form = document.querySelector("#ask");
const file = document.querySelector("#voice-file");
const speaker = document.querySelector("#speaker");
const own = document.querySelector("#own");
let sent = null;
let displaced = false;

const choose = (value) => {
  for (const radio of form.elements.voice) radio.checked = radio.value === value;
};

speaker?.addEventListener("change", () => choose("corpus"));
file.addEventListener("change", () => choose("file"));

// Pictures of live mode have no sound of their own: another voice is taken meanwhile.
export function allowOwn(allowed) {
  own.hidden = !allowed;
  if (!allowed && form.elements.voice.value === "own") {
    displaced = true;
    choose(speaker ? "corpus" : "file");
  } else if (allowed && displaced) {
    displaced = false;
    choose("own");
  }
}

// What the server calls the chosen voice.
export async function chosenVoice(told) {
  const { value } = form.elements.voice;
  if (value === "own") return "own";
  if (value === "corpus") return speaker.value;
  const [given] = file.files;
  if (!given) throw new Error("Choose the file with the voice first.");
  if (given !== sent) {
    await upload("voice", given, given.name, told);
    sent = given;
  }
  return "file";
}
