#!/usr/bin/env node
import { UsageError } from './kernels_command.ts';
import { main } from './program.ts';

await main(() => Promise.reject(new UsageError('This build opens no models yet.')));
