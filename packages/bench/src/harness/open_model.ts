import type { Device } from '@mambalab/kernels';
import type { Model, Sequence } from '@mambalab/models';
import { createRandomModel, hasWeight } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import type { ModelMemory } from '../results.ts';
import type { DecodeRun, MeasurableModel, ModelChoice, OpenModelOptions } from './model_bench.ts';
import { PRESETS } from './presets.ts';
