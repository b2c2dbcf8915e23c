#!/usr/bin/env node
import { main } from './program.ts';

await main({
  openModel: async () => (await import('../harness/open_model.ts')).openModel,
  checkLeaks: async () => (await import('../harness/leaks.ts')).checkLeaks,
});
