// Keeps the parts of the page that never change between two starts, and a page for when the server is away.
// The page itself is never kept: each one belongs to a kernel of its own.
"use strict";

const CACHE = "focusnb-{version}";
const OFFLINE = ["offline.html", "theme.css", "page.css", "icon.svg"];
const scope = new URL(self.registration.scope).pathname;

self.addEventListener("install", (event) => {
  event.waitUntil(
    caches
      .open(CACHE)
      .then((cache) => cache.addAll(OFFLINE.map((name) => scope + name)))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener("activate", (event) => {
  const clean = async () => {
    for (const name of await caches.keys()) if (name !== CACHE) await caches.delete(name);
    await self.clients.claim();
  };
  event.waitUntil(clean());
});

async function fromCache(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request);
  if (kept) return kept;
  const answer = await fetch(request);
  if (answer.ok) await cache.put(request, answer.clone());
  return answer;
}

async function orOffline(request) {
  try {
    return await fetch(request);
  } catch {
    const kept = await caches.match(scope + (request.mode === "navigate" ? "offline.html" : new URL(request.url).pathname.slice(scope.length)));
    return kept ?? Response.error();
  }
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== location.origin) return;
  const path = url.pathname.slice(scope.length);
  if (path.startsWith("voila/static/")) event.respondWith(fromCache(request));
  else if (request.mode === "navigate" || OFFLINE.includes(path)) event.respondWith(orOffline(request));
});
