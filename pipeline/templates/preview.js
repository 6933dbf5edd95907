// Moves each clip's lips, and a line over its pictures, with its sound.
for (const clip of document.querySelectorAll("article")) {
  const { frames, fps, columns, tile } = Object.fromEntries(Object.entries(clip.dataset).map(([k, v]) => [k, Number(v)]));
  const audio = clip.querySelector("audio");
  const axis = clip.querySelector(".axis");
  const line = clip.querySelector(".line");
  const clock = clip.querySelector(".clock");
  const words = clip.querySelectorAll(".word");
  const canvas = clip.querySelector("canvas");
  const picture = canvas.getContext("2d");
  const sheet = new Image();

  const show = () => {
    const time = audio.currentTime;
    const frame = Math.min(frames - 1, Math.floor(time * fps));
    const [x, y] = [frame % columns, Math.floor(frame / columns)];
    picture.drawImage(sheet, x * tile, y * tile, tile, tile, 0, 0, canvas.width, canvas.height);
    line.style.left = `${Math.min(100, (time * fps * 100) / frames)}%`;
    clock.textContent = `${time.toFixed(2)} s, frame ${frame + 1} of ${frames}`;
    for (const word of words) {
      word.classList.toggle("said", time >= Number(word.dataset.start) && time < Number(word.dataset.end));
    }
  };
  const follow = () => {
    show();
    if (!audio.paused) requestAnimationFrame(follow);
  };

  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) {
      if (other !== audio) other.pause();
    }
    clip.classList.add("started");
    follow();
  });
  audio.addEventListener("seeking", () => {
    clip.classList.add("started");
    show();
  });
  axis.addEventListener("click", (event) => {
    const box = axis.getBoundingClientRect();
    audio.currentTime = (Math.max(0, event.clientX - box.left) / box.width) * (frames / fps);
    clip.classList.add("started");
    show();
  });
  sheet.addEventListener("load", show);
  sheet.src = canvas.dataset.sheet;
}
