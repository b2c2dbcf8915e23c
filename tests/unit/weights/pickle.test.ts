import { WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { readPickle } from '../../../packages/models/src/weights/pickle.ts';
import {
  describePickle,
  entriesOf,
  PickleGlobal,
  PickleObject,
  PickleReference,
} from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';
import { bytesOf, littleEndian, operationsOf, pickleOf, tuple } from './torch_fixtures.ts';

const read = (bytes: Uint8Array): PickleValue =>
  readPickle(bytes, { file: 'a.pt', allows: (name) => name.startsWith('fine.') || name === 'collections.OrderedDict' });

/** Base64 of `pickle.dumps(value, protocol)` by CPython 3.11. */
const dumped = (text: string): Uint8Array => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));

describe('readPickle', () => {
  // {'a': [1, -2, 300, 70000, 2**40, -2**70], 'b': (None, True, False, 1.5), 'c': {'d': 'zoë', 'e': b'\x00\xff'}, 'f': ()}
  const expected = new Map<PickleValue, PickleValue>([
    ['a', [1, -2, 300, 70000, 2 ** 40, -(2n ** 70n)]],
    ['b', [null, true, false, 1.5]],
    [
      'c',
      new Map<PickleValue, PickleValue>([
        ['d', 'zoë'],
        ['e', Uint8Array.of(0, 255)],
      ]),
    ],
    ['f', []],
  ]);

  it.each([
    [
      3,
      'gAN9cQAoWAEAAABhcQFdcQIoSwFK/v///00sAUpwEQEAigYAAAAAAAGKCQAAAAAAAAAAwGVYAQAAAGJxAyhOiIlHP/gAAAAAAAB0cQRYAQAAAGNxBX1xBihYAQAAAGRxB1gEAAAAem/Dq3EIWAEAAABlcQlDAgD/cQp1WAEAAABmcQspdS4=',
    ],
    [
      4,
      'gASVYwAAAAAAAAB9lCiMAWGUXZQoSwFK/v///00sAUpwEQEAigYAAAAAAAGKCQAAAAAAAAAAwGWMAWKUKE6IiUc/+AAAAAAAAHSUjAFjlH2UKIwBZJSMBHpvw6uUjAFllEMCAP+UdYwBZpQpdS4=',
    ],
    [
      5,
      'gAWVYwAAAAAAAAB9lCiMAWGUXZQoSwFK/v///00sAUpwEQEAigYAAAAAAAGKCQAAAAAAAAAAwGWMAWKUKE6IiUc/+AAAAAAAAHSUjAFjlH2UKIwBZJSMBHpvw6uUjAFllEMCAP+UdYwBZpQpdS4=',
    ],
  ])('reads protocol %d as Python writes it', (_protocol, text) => {
    expect(read(dumped(text))).toEqual(expected);
  });

  it('reads dictionaries, sets and shared values of every form', () => {
    // A dictionary by DICT, a list by LIST, an item by SETITEM, a value kept by BINPUT and by MEMOIZE.
    const made = pickleOf(
      '(',
      'X',
      littleEndian(1, 4),
      'k',
      'K',
      7,
      'd',
      'q',
      0,
      'X',
      littleEndian(1, 4),
      'l',
      '(',
      'h',
      0,
      'N',
      'l',
      's',
    );
    const value = entriesOf(read(made));
    expect([...(value?.keys() ?? [])]).toEqual(['k', 'l']);
    expect(value?.get('k')).toBe(7);
    // The list holds the dictionary that holds it.
    const list = value?.get('l') as readonly PickleValue[];
    expect(list[0]).toBe(value);
    expect(list[1]).toBeNull();
    expect(read(pickleOf(0x8f, '(', 'K', 1, 'K', 2, 0x90))).toEqual([1, 2]);
    expect(read(pickleOf('(', 'K', 1, 0x91))).toEqual([1]);
    expect(read(pickleOf('K', 5, 0x94, '0', 'j', littleEndian(0, 4)))).toBe(5);
    expect(read(pickleOf('K', 5, 'r', littleEndian(9, 4), '2', 0x86))).toEqual([5, 5]);
    expect(read(pickleOf('(', 'K', 1, '1', 'N'))).toBeNull();
    expect(read(pickleOf(0x96, littleEndian(2, 8), 'ab'))).toEqual(bytesOf('ab'));
    expect(read(pickleOf(0x8b, littleEndian(2, 4), 0xff, 0xff))).toBe(-1);
    expect(read(pickleOf('U', 2, 'ab'))).toEqual(bytesOf('ab'));
  });

  it('writes calls down and makes none', () => {
    const object = new PickleObject('fine.Thing', [1, 'a']);
    object.state = new Map([['field', 2]]);
    const value = read(pickleOf(operationsOf(object)));
    expect(value).toBeInstanceOf(PickleObject);
    expect(value).toEqual(object);
    expect(read(pickleOf('cfine\nname\n'))).toEqual(new PickleGlobal('fine.name'));
    expect(read(pickleOf('N', 'Q'))).toEqual(new PickleReference(null));
    const made = new PickleObject('fine.Thing', [1]);
    expect(read(pickleOf('cfine\nThing\n', 'K', 1, 0x85, 0x81))).toEqual(made);
    expect(read(pickleOf('cfine\nThing\n', 'K', 1, 0x85, '}', 0x92))).toEqual(made);
    expect(read(pickleOf('(', 'cfine\nThing\n', 'K', 1, 'o'))).toEqual(made);
    expect(read(pickleOf('(', 'K', 1, 'ifine\nThing\n'))).toEqual(made);
  });

  it('keeps names from the file out of objects', () => {
    const value = read(pickleOf(operationsOf(new Map([['__proto__', new Map([['polluted', true]])]]))));
    expect(entriesOf(value)?.get('__proto__')).toEqual(new Map([['polluted', true]]));
    expect('polluted' in {}).toBe(false);
  });

  it('takes an OrderedDict for a dictionary', () => {
    const ordered = new PickleObject('collections.OrderedDict', []);
    ordered.entries.set('a', 1);
    expect(entriesOf(read(pickleOf(operationsOf(ordered))))).toEqual(new Map([['a', 1]]));
    expect(entriesOf(new PickleObject('collections.OrderedDict', [[]]))).toBeUndefined();
    expect(entriesOf(new PickleObject('fine.Thing', []))).toBeUndefined();
  });
});

describe('readPickle refuses code', () => {
  const text = (value: string): Uint8Array => operationsOf(value);
  const call = bytesOf('cos\nsystem\n', text('true'), 0x85, 'R');
  it.each<[string, Uint8Array, string]>([
    ['that REDUCE calls', pickleOf(call), 'os.system'],
    ['that is only named', pickleOf('cbuiltins\neval\n'), 'builtins.eval'],
    ['that INST calls', pickleOf('(', text('true'), 'ios\nsystem\n'), 'os.system'],
    ['that OBJ calls', pickleOf('(', 'cos\nsystem\n', text('true'), 'o'), 'os.system'],
    ['that NEWOBJ calls', pickleOf('csubprocess\nPopen\n', text('true'), 0x85, 0x81), 'subprocess.Popen'],
    ['named by two texts', pickleOf(text('os'), text('system'), 0x93, text('true'), 0x85, 'R'), 'os.system'],
    [
      'named by texts that were kept',
      pickleOf(text('os'), 'q', 1, '0', text('system'), 'q', 2, '0', 'h', 1, 'h', 2, 0x93),
      'os.system',
    ],
    ['named through a module that is allowed', pickleOf(text('finer'), text('x.os.system'), 0x93), 'finer.x.os.system'],
    ['inside a dictionary', pickleOf('}', text('weights'), ']', call, 'a', 's'), 'os.system'],
    ['inside the arguments of something harmless', pickleOf('cfine\nThing\n', call, 0x85, 'R'), 'os.system'],
    ['inside the state of something harmless', pickleOf('cfine\nThing\n', ')', 'R', call, 'b'), 'os.system'],
    ['inside a reference', pickleOf(call, 'Q'), 'os.system'],
  ])('%s', (_what, bytes, name) => {
    expect(() => read(bytes)).toThrow(WeightFormatError);
    expect(() => read(bytes)).toThrow(`names '${name}'`);
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['a call of what is no global', pickleOf('N', ')', 'R'), /None is called/],
    ['a call of what a call gave', pickleOf('cfine\nThing\n', ')', 'R', ')', 'R'), /made by fine\.Thing is called/],
    ['a call with no tuple', pickleOf('cfine\nThing\n', 'N', 'R'), /fine\.Thing is called with None/],
    [
      'arguments by name',
      pickleOf('cfine\nThing\n', ')', '}', text('a'), 'N', 's', 0x92),
      /fine\.Thing is called by names/,
    ],
    ['the state of a class', pickleOf('cfine\nThing\n', '}', 'b'), /state of fine\.Thing is set/],
    ['the state of a list', pickleOf(']', '}', 'b'), /state of a list of 0 is set/],
    ['a state set twice', pickleOf('cfine\nThing\n', ')', 'R', '}', 'b', '}', 'b'), /set twice/],
    ['items of a class', pickleOf('cfine\nThing\n', 'N', 'N', 's'), /items are set on fine\.Thing/],
    ['an extension by number', pickleOf(0x82, 1), /names a global by a number/],
    ['a global named by numbers', pickleOf('K', 1, 'K', 2, 0x93), /named by no text/],
  ])('and %s', (_what, bytes, message) => {
    expect(() => read(bytes)).toThrow(WeightFormatError);
    expect(() => read(bytes)).toThrow(message);
  });
});

describe('readPickle refuses damage', () => {
  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(0), /1 bytes should follow, but only 0 do/],
    ['another format', bytesOf('{"a": 1}'), /does not begin with a protocol/],
    ['protocol 1', bytesOf(0x80, 1, 'N.'), /protocol is 1/],
    ['protocol 6', bytesOf(0x80, 6, 'N.'), /protocol is 6/],
    ['an operation of protocol 0', pickleOf('I1\n'), /byte 0x49 is no operation/],
    ['a long text', pickleOf('X', littleEndian(2 ** 32 - 1, 4), 'a'), /4294967295 bytes should follow, but only 2 do/],
    ['a longer text', pickleOf(0x8d, littleEndian(2 ** 50, 8), 'a'), /1125899906842624 bytes should follow/],
    ['bytes without end', pickleOf(0x8e, 255, 255, 255, 255, 255, 255, 255, 255), /bytes should follow/],
    ['a frame without end', pickleOf(0x95, littleEndian(1000, 8)), /1000 bytes should follow/],
    ['a long integer', pickleOf(0x8b, littleEndian(2 ** 31, 4)), /an integer has 2147483648 bytes/],
    ['text that is no text', pickleOf('X', littleEndian(1, 4), 0xff), /not UTF-8/],
    ['a name without end', pickleOf('cfine'), /name of a global does not end/],
    ['a value that was not kept', pickleOf('h', 3), /value 3, which it has not kept/],
    ['an empty stack', pickleOf(), /a value is missing/],
    ['a tuple of nothing', pickleOf('K', 1, 0x86), /a value is missing/],
    ['a value below a mark', pickleOf('K', 1, '(', 0x85), /a value is missing/],
    ['nothing to keep', pickleOf('(', 'q', 0), /a value is missing/],
    ['a container without a beginning', pickleOf('t'), /beginning of a container is missing/],
    ['values left over', pickleOf('N', 'N'), /left over/],
    ['a mark left over', pickleOf('(', 'N'), /left over/],
    ['a second pickle', bytesOf(pickleOf('N'), pickleOf('N')), /bytes follow its end/],
    ['a key without a value', pickleOf('}', '(', 'N', 'u'), /has no value/],
    ['a key that stands twice', pickleOf('}', '(', 'K', 1, 'N', 'K', 1, 'N', 'u'), /key 1 stands twice/],
    ['a tuple that grows', pickleOf(')', 'N', 'a'), /appended to a list of 0/],
    ['a number that grows', pickleOf('K', 1, 'N', 'a'), /appended to 1/],
    ['marks without end', pickleOf('('.repeat(200)), /deeper than 128/],
    ['tuples in tuples', pickleOf('N', ...Array.from({ length: 200 }, () => 0x85)), /deeper than 128/],
    ['lists in lists', pickleOf(']'.repeat(200), 'a'.repeat(199)), /deeper than 128/],
    ['buffers outside', pickleOf(0x97), /buffers that are not in the file/],
  ])('%s', (_what, bytes, message) => {
    expect(() => read(bytes)).toThrow(WeightFormatError);
    expect(() => read(bytes)).toThrow(message);
  });

  it('of more operations or values than a checkpoint has', () => {
    const many = new Uint8Array(2 ** 23);
    many.set([0x80, 2]);
    // NONE and POP, again and again.
    for (let index = 2; index < many.byteLength; index++) many[index] = index % 2 === 0 ? 0x4e : 0x30;
    expect(() => read(many)).toThrow(/more than 4194304 operations/);
    expect(() => read(many.fill(0x4e, 2))).toThrow(/more than 1048576 values wait/);
  });

  it('cut off anywhere', () => {
    const whole = pickleOf(
      operationsOf(
        new Map<PickleValue, PickleValue>([
          ['a', [1, 2.5, 'b']],
          ['c', tuple(null, true)],
        ]),
      ),
    );
    expect(read(whole)).toBeInstanceOf(Map);
    for (let end = 0; end < whole.byteLength; end++) {
      expect(() => read(whole.subarray(0, end)), `after ${end} bytes`).toThrow(WeightFormatError);
    }
  });
});

it('describes values in a few words', () => {
  const long = 'x'.repeat(1000);
  const values: PickleValue[] = [long, 2n ** 400n, new PickleReference(null), new Uint8Array(3), new Map(), [1, 2]];
  for (const value of values) expect(describePickle(value).length).toBeLessThan(50);
  expect(describePickle(undefined)).toBe('nothing');
});
