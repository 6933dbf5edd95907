// One clip is played at a time, and a line runs over its pictures. A click on a picture goes to that moment.
for (const clip of document.querySelectorAll("article")) {
  const seconds = Number(clip.dataset.seconds);
  const sounds = [...clip.querySelectorAll("audio")];
  const lines = clip.querySelectorAll(".line");
  let playing = sounds[0];

  const show = () => {
    for (const line of lines) line.style.left = `${Math.min(100, (playing.currentTime * 100) / seconds)}%`;
  };
  const follow = () => {
    show();
    if (!playing.paused) requestAnimationFrame(follow);
  };
  const start = (sound) => {
    playing = sound;
    clip.classList.add("started");
  };
  for (const sound of sounds) {
    sound.addEventListener("play", () => {
      for (const other of document.querySelectorAll("audio")) {
        if (other !== sound) other.pause();
      }
      start(sound);
      follow();
    });
    sound.addEventListener("seeking", () => {
      start(sound);
      show();
    });
  }
  for (const axis of clip.querySelectorAll(".axis")) {
    axis.addEventListener("click", (event) => {
      const sound = sounds.find(({ dataset }) => dataset.system === axis.dataset.system) ?? playing;
      if (!sound) return;
      const box = axis.getBoundingClientRect();
      sound.currentTime = (Math.max(0, event.clientX - box.left) / box.width) * seconds;
    });
  }
}

// Paper cannot be clicked.
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
