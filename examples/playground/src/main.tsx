import { render } from 'preact';
import { App } from './app.tsx';

const root = document.getElementById('app');
if (root === null) throw new TypeError("The page has no element with the id 'app'.");
render(<App />, root);

// Built pages also open without a network. Where there may be no worker, they need one.
const isBuilt = new URL(import.meta.url).pathname.includes('/assets/');
if (isBuilt && 'serviceWorker' in navigator) {
  void navigator.serviceWorker.register('./service_worker.js').catch(() => undefined);
}
