import { useLayoutEffect, useState } from 'preact/hooks';

/** A value that components redraw for. */
export class Observable<T> {
  #value: T;
  readonly #watchers = new Set<() => void>();

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    return this.#value;
  }

  set value(value: T) {
    if (Object.is(value, this.#value)) return;
    this.#value = value;
    for (const watcher of this.#watchers) watcher();
  }

  watch(watcher: () => void): () => void {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  }
}

/** The value now, and a redraw of the component whenever it changes. */
export function useValue<T>(observable: Observable<T>): T {
  const [, setShown] = useState(observable.value);
  useLayoutEffect(() => {
    const redraw = (): void => setShown(() => observable.value);
    // It may have changed since the component was drawn.
    redraw();
    return observable.watch(redraw);
  }, [observable]);
  return observable.value;
}

/** Calls a function once a frame at most: figures change with each token, which the eye cannot follow. */
export function oncePerFrame(body: () => void): () => void {
  let isWaiting = false;
  return () => {
    if (isWaiting) return;
    isWaiting = true;
    requestAnimationFrame(() => {
      isWaiting = false;
      body();
    });
  };
}
