// What the page asks of the server: to enter, to take files, to work, and to tell how that goes.
let visit = "";

const path = (rest) => `/visits/${visit}/${rest}`;

async function answer(response) {
  const found = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(found.error ?? `the server answers with status ${response.status}`);
  return found;
}

// Calls `told` with the state of the job whenever it changes; `lost` with a sentence when the server has forgotten us.
export async function enter(told, lost) {
  ({ visit } = await answer(await fetch("/visits", { method: "POST" })));
  const news = new EventSource(path("news"));
  let misses = 0;
  news.addEventListener("message", ({ data }) => {
    misses = 0;
    lost("");
    const state = JSON.parse(data);
    if (state.ended) {
      news.close();
      lost("The files of this page were deleted, since nothing happened on it for long. Load it again to go on.");
    } else {
      told(state.job);
    }
  });
  news.addEventListener("error", () => {
    misses += 1;
    if (news.readyState === EventSource.CLOSED) {
      lost("This page was away for too long, and its files are gone. Load it again to go on.");
    } else if (misses > 2) {
      lost("The server does not answer. Does it still run?");
    }
  });
  addEventListener("pagehide", () => {
    news.close();
    navigator.sendBeacon(path("leave"));
  });
  addEventListener("pageshow", ({ persisted }) => {
    if (persisted) location.reload();
  });
}

// Sends a file; `told` gets the share of it that has gone. By XMLHttpRequest: fetch does not say how far it is.
export function upload(purpose, file, name, told) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", path(`files/${purpose}?name=${encodeURIComponent(name)}`));
    request.upload.addEventListener("progress", (event) => told(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Error(`${name}: the server does not take it`)));
    request.addEventListener("load", () => {
      if (request.status === 200) return resolve();
      let reason = "";
      try {
        reason = JSON.parse(request.responseText).error;
      } catch {
        reason = `${name}: the server answers with status ${request.status}`;
      }
      reject(new Error(reason));
    });
    request.send(file);
  });
}

export const start = async (asked) =>
  (await answer(await fetch(path("job"), { method: "POST", body: JSON.stringify(asked) }))).job;

export const stop = async () => answer(await fetch(path("job"), { method: "DELETE" }));

export const sendPictures = async (content, end) =>
  answer(await fetch(path(end ? "pictures?end" : "pictures"), { method: "POST", body: content }));

export const result = (job, name) => path(`results/${job}/${name}`);
