// Live parts: an element with data-refresh="seconds" and an id is fetched again and replaced.
"use strict";

function keepFresh(part) {
  const seconds = Number(part.dataset.refresh);
  window.setInterval(async () => {
    if (document.hidden) return;
    const answer = await fetch(window.location.href, { headers: { "X-Refresh": "1" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.getElementById(part.id);
    if (fresh && !part.contains(document.activeElement)) part.innerHTML = fresh.innerHTML;
  }, seconds * 1000);
}

function offerCopy(button) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    const text = document.getElementById(button.dataset.copy).textContent.trim();
    await navigator.clipboard.writeText(text);
    button.textContent = "Copied";
  });
}

for (const part of document.querySelectorAll("[data-refresh][id]")) keepFresh(part);
for (const button of document.querySelectorAll("button[data-copy]")) offerCopy(button);
