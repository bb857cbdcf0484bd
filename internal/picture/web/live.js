"use strict";
const now = document.getElementById("now");
let at = "";
setInterval(async () => {
  try {
    const answer = await fetch("progress", {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.status);
    const next = answer.headers.get("ETag"), text = await answer.text();
    if (at && next !== at) return location.reload();
    at = next;
    if (now.innerHTML !== text) now.innerHTML = text;
  } catch {
    now.textContent = "The server does not answer any more: what is shown is old.";
  }
}, 1000);
