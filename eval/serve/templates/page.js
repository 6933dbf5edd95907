// The page: one way in at a time, a voice, a job, and what becomes of it.
import * as camera from "./camera.js";
import { listen, released } from "./live.js";
import { clear, show } from "./result.js";
import { enter, start, stop, upload } from "./server.js";
import { allowOwn, chosenVoice } from "./voice.js";

const $ = (name) => document.querySelector(`#${name}`);
const [form, drop, input, go, status] = ["ask", "drop", "video", "go", "status"].map($);
const { maxBytes, maxSeconds } = document.body.dataset;
const NAMES = { starting: "Starting a fresh network", picture: "Writing the video", scores: "Scores" };
const shownName = (part) => NAMES[part] ?? part[0].toUpperCase() + part.slice(1);
let busy = false;
let file = null;
let attempts = 0;
let [latest, past] = ["", ""]; // jobs: the one that was told of last, and the one before what is being asked for

const wayOf = () => form.elements.way.value;

// The token is in a cookie by now: it need not stand in the address.
if (location.search) history.replaceState(null, "", "/");

function fail(reason) {
  const parts = [reason];
  if (/speaker-reference/.test(reason)) parts.push("On this page: choose another voice above.");
  if (/lip-box/.test(reason)) {
    parts.push("On this page: take a video in which the face is larger, lit and seen from the front.");
  }
  $("error").replaceChildren(parts[0]);
  if (parts[1]) $("error").append(Object.assign(document.createElement("small"), { textContent: parts[1] }));
  $("error").hidden = !reason;
  if (reason) $("error").scrollIntoView({ block: "nearest" });
}

function tell(text) {
  $("progress").hidden = false;
  if (status.textContent !== text) status.textContent = text;
}

function update() {
  const way = wayOf();
  for (const part of document.querySelectorAll(".way")) part.hidden = !part.dataset.way.split(" ").includes(way);
  go.disabled = busy || !(way === "file" ? file : camera.chosenTake());
  $("hold").disabled = !camera.isOn();
  $("stop").hidden = !busy;
}

for (const radio of form.elements.way) {
  radio.addEventListener("change", () => {
    camera.giveUp();
    allowOwn(wayOf() !== "live");
    update();
  });
}

function choose(given) {
  if (!given) return;
  fail("");
  file = given;
  drop.classList.add("filled");
  $("chosen").textContent = `${given.name}, ${(given.size / 1048576).toFixed(2)} MB`;
  if (given.size > Number(maxBytes)) {
    fail(`${given.name}: larger than ${maxBytes / 1048576} MB, which is the most (--max-mb)`);
    file = null;
  }
  update();
}

input.addEventListener("change", () => choose(input.files[0]));
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault(); // a file that misses is not to replace the page
    drop.classList.toggle("over", name !== "dragleave" && name !== "drop" && drop.contains(event.target));
  });
}
drop.addEventListener("drop", (event) => choose(event.dataTransfer.files[0]));

async function turnOn() {
  if (await camera.turnOn(wayOf() === "camera" && $("microphone").checked)) camera.ready();
  update();
  document.querySelector(".camera").scrollIntoView({ block: "nearest" });
}
$("camera-on").addEventListener("click", turnOn);
$("again").addEventListener("click", turnOn);
$("microphone").addEventListener("change", () => camera.isOn() && turnOn());
$("record").addEventListener("click", () =>
  camera.recordTake(tell, () => {
    allowOwn($("microphone").checked);
    update();
    go.focus();
  }),
);

function begin(text) {
  fail("");
  clear();
  $("parts").replaceChildren();
  busy = true;
  attempts += 1;
  past = latest;
  tell(text);
  update();
  if (wayOf() !== "live") $("progress").scrollIntoView({ block: "nearest" });
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (go.disabled) return;
  const given = wayOf() === "file" ? file : camera.chosenTake();
  begin("Sending the file");
  const attempt = attempts;
  const sending = (share) => attempt === attempts && tell(share < 1 ? "Sending the file" : "Sent");
  try {
    const voice = await chosenVoice(sending);
    await upload("video", given, given.name, sending);
    if (attempt !== attempts) return; // stopped meanwhile
    await start({ voice });
    if (attempt !== attempts) await stop();
  } catch (problem) {
    if (attempt !== attempts) return;
    end("Not done");
    fail(problem.message);
  }
});
$("stop").addEventListener("click", async () => {
  attempts += 1;
  past = latest;
  end("Stopped");
  await stop().catch(() => {});
});

function end(text) {
  busy = false;
  tell(text);
  update();
}

function showParts(job) {
  const seconds = Object.entries(job.seconds ?? {});
  const longest = Math.max(0.1, ...seconds.map(([, taken]) => taken));
  const rows = seconds.map(([part, taken]) => {
    const row = document.createElement("tr");
    const now = job.state === "working" && part === job.part;
    row.className = now ? "now" : "";
    const head = Object.assign(document.createElement("th"), { scope: "row", textContent: shownName(part) });
    const [bar, time] = [document.createElement("td"), document.createElement("td")];
    bar.className = "bar";
    const fill = bar.appendChild(document.createElement("span"));
    fill.style.width = `${now && job.done !== null ? job.done * 100 : (taken / longest) * 100}%`;
    time.className = "seconds";
    time.textContent = now && job.done !== null ? `${Math.round(job.done * 100)}%` : `${taken.toFixed(2)} s`;
    row.append(head, bar, time);
    return row;
  });
  $("parts").replaceChildren(...rows);
}

function told(job) {
  if (!busy || !job || job.id === past) return;
  latest = job.id;
  showParts(job);
  if (job.state === "waiting") tell(`Waiting: ${job.before} before you`);
  if (job.state === "working") {
    tell(job.listening && !job.speech ? "Watching your lips" : shownName(job.part ?? "starting"));
  }
  show(job, () => {
    $("latency-seconds").textContent = `${((performance.now() - released) / 1000).toFixed(2)} s`;
    $("latency").hidden = false;
  });
  if (job.after) {
    const parts = Object.entries(job.after).map(([part, taken]) => `${part} ${taken.toFixed(2)} s`);
    $("latency-parts").textContent = `after release: ${parts.join(", ")}; the rest is the way there and back`;
  }
  if (job.state === "done" && busy) {
    const total = Object.values(job.seconds).reduce((sum, one) => sum + one, 0);
    end(`Done: ${job.length.toFixed(1)} s of speech in ${total.toFixed(1)} s`);
  }
  if (job.state === "failed" && busy) {
    end("Not done");
    fail(job.error ?? "the job was ended");
  }
}

listen(
  () => wayOf() === "live" && camera.isOn(),
  () => busy,
  () => begin("Watching your lips"),
  (problem) => {
    end("Not done");
    fail(problem.message);
  },
);
update();
enter(told, (reason) => {
  $("lost").textContent = reason;
  $("lost").hidden = !reason;
}).catch((problem) => {
  $("lost").textContent = problem.message;
  $("lost").hidden = false;
});
