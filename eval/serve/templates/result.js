// What became of a job: the picture with its speech, the lips, the mel, texts and scores, all at the same moment.
import { result } from "./server.js";

const $ = (name) => document.querySelector(`#${name}`);
const [section, spoken, sound] = ["result", "spoken", "sound"].map($);
const [original, square, line] = ["original", "square", "line"].map($);
const brush = $("lips").getContext("2d");
let job = null;
let sheets = [];
let shownOf = "";
let playing = spoken;

const pieces = new Set();

// Whether a piece of this job is shown for the first time.
function first(name) {
  if (pieces.has(name)) return false;
  pieces.add(name);
  return true;
}

export function clear() {
  for (const player of [spoken, sound, original]) {
    player.pause();
    player.removeAttribute("src");
    player.load();
  }
  for (const name of ["result", "compared", "read", "latency", "mp4", "wav", "square", "heard"]) $(name).hidden = true;
  $("notes").replaceChildren();
  section.classList.remove("started");
  brush.clearRect(0, 0, 96, 96);
  pieces.clear();
  sheets = [];
  shownOf = "";
}

function element(kind, text, className = "") {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = className;
  return made;
}

function drawMoment() {
  if (!job?.length) return;
  const at = Math.min(playing.currentTime / job.length, 1);
  line.style.left = `${at * 100}%`;
  const frame = Math.min(Math.floor(playing.currentTime * 25), job.frames - 1);
  const { lips, squares, size } = job;
  if (lips) {
    const sheet = sheets[Math.floor(frame / lips.frames)];
    const place = frame % lips.frames;
    if (sheet?.complete) {
      const [x, y] = [place % lips.columns, Math.floor(place / lips.columns)].map((one) => one * lips.tile);
      brush.drawImage(sheet, x, y, lips.tile, lips.tile, 0, 0, 96, 96);
    }
  }
  if (squares && size) {
    const [x, y, side] = squares[frame];
    const [width, height] = size;
    square.style.left = `${(100 * (x - side / 2)) / width}%`;
    square.style.top = `${(100 * (y - side / 2)) / height}%`;
    square.style.width = `${(100 * side) / width}%`;
    square.style.height = `${(100 * side) / height}%`;
    square.hidden = false;
  }
}

function follow() {
  drawMoment();
  if (!playing.paused && !playing.ended) requestAnimationFrame(follow);
}

for (const player of [spoken, sound, original]) {
  player.addEventListener("play", () => {
    for (const other of [spoken, sound, original]) if (other !== player) other.pause();
    playing = player;
    section.classList.add("started");
    follow();
  });
  player.addEventListener("seeking", () => {
    playing = player;
    section.classList.add("started");
    drawMoment();
  });
}
$("axis").addEventListener("click", (event) => {
  const box = event.currentTarget.getBoundingClientRect();
  playing.currentTime = (Math.max(0, event.clientX - box.left) / box.width) * (job?.length ?? 0);
});

function link(name, file) {
  $(name).href = result(job.id, file);
  $(name).hidden = false;
}

function showSpeech() {
  $("picture").hidden = job.live;
  $("heard").hidden = !job.live;
  playing = job.live ? sound : spoken;
  $("read").hidden = job.text === null;
  $("text").textContent = job.text || "nothing";
  $("notes").replaceChildren(...job.notes.map((note) => element("li", note)));
  $("length").textContent = `${job.length.toFixed(2)} s`;
  link("wav", "speech.wav");
}

function showLips() {
  const count = Math.ceil(job.frames / job.lips.frames);
  sheets = Array.from({ length: count }, (_, number) => {
    const sheet = new Image();
    sheet.addEventListener("load", drawMoment);
    sheet.src = result(job.id, `lips-${number}.jpg`);
    return sheet;
  });
  $("mel").src = result(job.id, "mel.png");
}

function showScores() {
  original.src = result(job.id, "original.wav");
  const rows = job.scores.map(([metric, score, note]) => {
    const row = document.createElement("tr");
    const head = element("th", metric);
    head.scope = "row";
    row.append(head, element("td", score, "number"), element("td", note));
    return row;
  });
  $("scores").tBodies[0].replaceChildren(...rows);
  $("compared").hidden = false;
}

// Shows what there is of a job. `heard` is called when the first sample of a live utterance is played.
export function show(state, heard) {
  if (state.id !== shownOf) {
    clear();
    shownOf = state.id;
  }
  job = state;
  if (!job.speech) return;
  if (first("speech")) {
    showSpeech();
    if (job.live) {
      sound.addEventListener("playing", heard, { once: true });
      sound.src = result(job.id, "speech.wav");
      sound.play().catch(() => {});
      section.hidden = false;
    }
  }
  if (job.lips && first("lips")) showLips();
  if (job.video && first("video")) {
    spoken.src = result(job.id, "speech.mp4");
    link("mp4", "speech.mp4");
    section.hidden = false;
    $("result-title").focus({ preventScroll: true });
    section.scrollIntoView({ block: "start" });
  }
  if (job.original && first("original")) showScores();
}
