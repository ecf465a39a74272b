// Every check of every case file on the device of LIMBECK_TEST_DEVICE ('cpu' unless set; 'cuda' may be the emulated one).
import { describe, test } from 'vitest';
import * as limbeck from '../src/index.js';
import { native } from '../src/native.js';
import * as raw from '../src/raw.js';
import { cases } from './cases/index.js';
import type { Native, Subject } from './subject.js';

const device = process.env.LIMBECK_TEST_DEVICE ?? 'cpu';
if (device !== 'cpu' && device !== 'cuda') throw new Error(`LIMBECK_TEST_DEVICE must be cpu or cuda: it is ${device}`);

const subject: Subject = { limbeck, raw, native: native() as unknown as Native, device };

for (const { op, checks } of cases)
  describe(op, () => {
    for (const { name, run } of checks) test(`${op}: ${name}`, () => run(subject), 120_000);
  });
