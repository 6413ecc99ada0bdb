//! Quantiles of the gamma distribution.

/// The Lanczos approximation (g = 7, nine terms) of ln Γ(x), x > 0; relative error below 1e-14.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    // Below 1/2 the next one is asked for: Γ(x + 1) = x Γ(x).
    if x < 0.5 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let x = x - 1.0;
    let terms = (1..)
        .zip(TERMS)
        .map(|(index, term)| term / (x + f64::from(index)));
    let series = 0.999_999_999_999_809_9 + terms.sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + series.ln()
}

/// ln of `x^a e^-x / Γ(a)`.
fn ln_density(a: f64, x: f64) -> f64 {
    a * x.ln() - x - ln_gamma(a)
}

/// The regularized lower incomplete gamma function P(a, x): by its series below the mean, else by
/// the continued fraction of the upper one (DLMF 8.11.4 and 8.9.2).
fn lower(a: f64, x: f64) -> f64 {
    const TERMS: u32 = 10_000;
    const SMALL: f64 = 1e-15;
    if x <= 0.0 {
        return 0.0;
    }
    if x < a + 1.0 {
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        for _ in 0..TERMS {
            n += 1.0;
            term *= x / n;
            sum += term;
            if term < sum * SMALL {
                break;
            }
        }
        return sum * ln_density(a, x).exp();
    }
    // Lentz's method.
    const TINY: f64 = 1e-300;
    let mut b = x + 1.0 - a;
    let (mut c, mut d) = (1.0 / TINY, 1.0 / b);
    let mut fraction = d;
    for index in 1..TERMS {
        let index = f64::from(index);
        let term = -index * (index - a);
        b += 2.0;
        let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
        d = 1.0 / away_from_zero(term * d + b);
        c = away_from_zero(b + term / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < SMALL {
            break;
        }
    }
    1.0 - ln_density(a, x).exp() * fraction
}

/// From this shape on the approximation of Wilson and Hilferty (1931) is as good as needed: its
/// error is below a thousandth of a standard deviation.
const WIDE: f64 = 1000.0;

/// The value below which a gamma variable of this shape and scale 1 stays with the probability
/// `p`, of which `z` is the normal quantile. `shape` is above 0, and 0 < `p` < 1.
pub fn quantile(shape: f64, p: f64, z: f64) -> f64 {
    let ninth = 1.0 / (9.0 * shape);
    let cube_root = 1.0 - ninth + z * ninth.sqrt();
    let normal = shape * cube_root.powi(3);
    if shape >= WIDE {
        return normal;
    }
    // Near 0, P(a, x) is x^a / Γ(a + 1).
    let near_zero = ((p.ln() + ln_gamma(shape + 1.0)) / shape).exp();
    let mut x = if cube_root > 0.1 { normal } else { near_zero };
    let (mut low, mut high) = (0.0, f64::INFINITY);
    for _ in 0..100 {
        if x < f64::MIN_POSITIVE {
            return 0.0;
        }
        let error = lower(shape, x) - p;
        match error > 0.0 {
            true => high = x,
            false => low = x,
        }
        let newton = x - error * x / ln_density(shape, x).exp();
        let next = if newton > low && newton < high {
            newton
        } else if high.is_finite() {
            f64::midpoint(low, high)
        } else {
            2.0 * x
        };
        if (next - x).abs() <= 1e-10 * x {
            return next;
        }
        x = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Quantiles of chi-squared tables (shape half the degrees of freedom, scale 2), and of the
    /// exponential distribution.
    #[test]
    fn quantiles_are_those_of_tables() {
        const Z: f64 = 3.290_526_731_491_9;
        for (degrees, p, z, expected) in [
            (2.0, 0.9995, Z, 15.201_805),
            (2.0, 0.0005, -Z, 0.001_000_25),
            (1.0, 0.9995, Z, 12.115_665),
            (10.0, 0.9995, Z, 31.419_813),
            (10.0, 0.0005, -Z, 1.264_982),
            (100.0, 0.9995, Z, 153.166_955),
            (100.0, 0.0005, -Z, 59.895_66),
        ] {
            let found = 2.0 * quantile(degrees / 2.0, p, z);
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{degrees} {p}: {found}, expected {expected}"
            );
        }
    }

    /// The quantile is the inverse of the distribution, for small and large shapes.
    #[test]
    fn quantile_inverts_the_distribution() {
        for shape in [0.01, 0.3, 1.0, 2.5, 40.0, 999.0] {
            for (p, z) in [
                (0.0005, -3.290_526_731_5),
                (0.5, 0.0),
                (0.9995, 3.290_526_731_5),
            ] {
                let x = quantile(shape, p, z);
                // The smallest quantiles of small shapes are below what a number can be.
                if x > 0.0 {
                    assert!((lower(shape, x) - p).abs() < 1e-8, "{shape} {p}: {x}");
                }
            }
        }
    }
}
