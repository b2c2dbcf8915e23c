// Keeps the page itself, so that it opens without a network. Models are kept by the library's own cache.
// The build puts the files of the page, and a hash of them, in place of the two constants.
const FILES = __FILES__;
const CACHE = `mambalab-playground-${__VERSION__}`;

self.addEventListener('install', (event) => {
  const keep = async () => {
    const cache = await caches.open(CACHE);
    await cache.addAll(FILES.map((file) => new Request(file, { cache: 'reload' })));
    await self.skipWaiting();
  };
  event.waitUntil(keep());
});

self.addEventListener('activate', (event) => {
  const removeOthers = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith('mambalab-playground-') && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(removeOthers());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  const { scope } = self.registration;
  const path = request.url.startsWith(scope) ? request.url.slice(scope.length).split(/[?#]/)[0] : undefined;
  const file = path === '' ? 'index.html' : path;
  if (request.method !== 'GET' || file === undefined || !FILES.includes(file)) return;
  const answer = async () => {
    const cache = await caches.open(CACHE);
    return (await cache.match(new URL(file, scope))) ?? (await fetch(request));
  };
  event.respondWith(answer());
});
