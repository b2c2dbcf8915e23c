const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');

const padded = (value: number, width: number = 2): string => String(value).padStart(width, '0');

/** Directives of Python's `strftime`, in the locale C. */
const DIRECTIVES: Readonly<Record<string, (date: Date) => string>> = {
  '%': () => '%',
  A: (date) => DAYS[date.getDay()] ?? '',
  B: (date) => MONTHS[date.getMonth()] ?? '',
  H: (date) => padded(date.getHours()),
  I: (date) => padded(date.getHours() % 12 || 12),
  M: (date) => padded(date.getMinutes()),
  S: (date) => padded(date.getSeconds()),
  Y: (date) => padded(date.getFullYear(), 4),
  a: (date) => (DAYS[date.getDay()] ?? '').slice(0, 3),
  b: (date) => (MONTHS[date.getMonth()] ?? '').slice(0, 3),
  d: (date) => padded(date.getDate()),
  j: (date) => padded(dayOfYear(date), 3),
  m: (date) => padded(date.getMonth() + 1),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  y: (date) => padded(date.getFullYear() % 100),
};

function dayOfYear(date: Date): number {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((day - Date.UTC(date.getFullYear(), 0, 1)) / 86_400_000) + 1;
}

/** A date as Python's `strftime` writes it: English names, local time. Directives that are not known stay as they are. */
export function strftime(date: Date, format: string): string {
  return format.replace(/%(.)/gs, (whole, directive: string) =>
    Object.hasOwn(DIRECTIVES, directive) ? (DIRECTIVES[directive]?.(date) ?? whole) : whole,
  );
}
