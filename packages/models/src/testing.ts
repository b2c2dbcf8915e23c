// What tests and measurements need of the inside of a model. None of it is part of the package's stable surface.
export { FilledContext } from './generation/filled_context.ts';
export type { FilledContextOptions } from './generation/filled_context.ts';
