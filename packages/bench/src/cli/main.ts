#!/usr/bin/env node
import { main } from './program.ts';

await main(async () => (await import('../harness/open_model.ts')).openModel);
