/** The activation functions that kernels know by name. */
export type Activation = 'none' | 'silu' | 'gelu' | 'geluTanh' | 'relu2' | 'relu' | 'sigmoid';

/** Below this magnitude erf is summed as a series; above it, erfc as a continued fraction. */
const SERIES_LIMIT = 2;
/** Enough of the continued fraction for 1e-16 at `SERIES_LIMIT`, where it converges slowest. */
const FRACTION_TERMS = 160;

/** erf(x) = 2/sqrt(pi) exp(-x^2) sum_n 2^n x^(2n+1) / (1*3*...*(2n+1)): every term has one sign, so nothing cancels. */
function erfSeries(x: number): number {
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > Math.abs(sum) * 1e-18; n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** erfc(x) = exp(-x^2)/sqrt(pi) / (x + (1/2)/(x + (2/2)/(x + (3/2)/(x + ...)))), for x > 0. */
function erfcFraction(x: number): number {
  let denominator = x;
  for (let n = FRACTION_TERMS; n >= 1; n--) denominator = x + n / 2 / denominator;
  return Math.exp(-x * x) / (Math.sqrt(Math.PI) * denominator);
}

/** The error function, 2/sqrt(pi) integral_0^x exp(-t^2) dt, to about 1e-16 absolute (Abramowitz & Stegun 7.1.6, 7.1.14). */
export function erf(x: number): number {
  if (Math.abs(x) < SERIES_LIMIT) return erfSeries(x);
  return x > 0 ? 1 - erfcFraction(x) : erfcFraction(-x) - 1;
}

/** 1 - erf(x) without the cancellation for x > 0. */
export function erfc(x: number): number {
  if (Math.abs(x) < SERIES_LIMIT) return 1 - erfSeries(x);
  return x > 0 ? erfcFraction(x) : 2 - erfcFraction(-x);
}

/** 1 / (1 + exp(-x)). */
export function sigmoid(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

/** x sigmoid(x), `torch.nn.functional.silu`. */
export function silu(x: number): number {
  return x * sigmoid(x);
}

/** log(1 + exp(x)), and x itself above 20: the threshold of `torch.nn.functional.softplus` and of the Mamba kernels. */
export function softplus(x: number): number {
  return x > 20 ? x : Math.log1p(Math.exp(x));
}

/** x Phi(x) with the exact normal distribution function Phi(x) = erfc(-x/sqrt(2))/2, `gelu(approximate='none')`. */
export function gelu(x: number): number {
  return 0.5 * x * erfc(-x * Math.SQRT1_2);
}

/** x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2, `gelu(approximate='tanh')`. */
export function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x * x * x)));
}

/** The activation called `name`, applied to `x`; `relu2` is the square of `relu`. */
export function activate(name: Activation, x: number): number {
  switch (name) {
    case 'none':
      return x;
    case 'silu':
      return silu(x);
    case 'gelu':
      return gelu(x);
    case 'geluTanh':
      return geluTanh(x);
    case 'relu':
      return Math.max(x, 0);
    case 'relu2':
      return Math.max(x, 0) ** 2;
    case 'sigmoid':
      return sigmoid(x);
  }
}
