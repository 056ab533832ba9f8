//! Postage stamps, drawn once and dealt out: they are most of an alert's bytes and take most of the time to make.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::fits::Image;
use super::noise::Noise;

/// Sets of stamps in the pool.
const N_SETS: u64 = 32;

/// ZTF: pixels along each axis.
const ZTF_SIDE: usize = 63;
/// LSST: pixels along each axis of the stamp, and of the image of the point-spread function, by stamp.
const LSST_SIDE: usize = 30;
const LSST_PSF_SIDES: [usize; 3] = [41, 49, 41];

/// Science, template and difference of one detection.
type Stamps = [Bytes; 3];

/// One stamp as ZTF sends it.
pub(super) struct Stamp {
    pub name: String,
    pub bytes: Bytes,
}

pub(super) struct Pool(Vec<Stamps>);

impl Pool {
    /// Gzipped FITS of 63 × 63 pixels, 12 to 15 kB each.
    pub(super) fn ztf(seed: u64) -> Self {
        Self::draw(seed, |pixels, _| {
            let mut fits = Vec::new();
            Image { side: ZTF_SIDE, pixels: &pixels(ZTF_SIDE), bitpix: -32, name: None, unit: "DN" }.put(&mut fits);
            gzip(&fits)
        })
    }

    /// Plain FITS of 34,560 bytes (template 40,320): stamp, uncertainty, point-spread function. Rubin's alerts carry
    /// them as they are, where ZTF's are gzipped; so alerts of both are as large and as compressible as the real ones.
    pub(super) fn lsst(seed: u64) -> Self {
        Self::draw(seed, |pixels, stamp| {
            let (side, psf_side) = (LSST_SIDE, LSST_PSF_SIDES[stamp]);
            let mut fits = Vec::new();
            let stamp = pixels(side);
            let errors: Vec<f64> = stamp.iter().map(|flux| (900.0 + flux.abs()).sqrt()).collect();
            Image { side, pixels: &stamp, bitpix: -32, name: None, unit: "nJy" }.put(&mut fits);
            Image { side, pixels: &errors, bitpix: -32, name: Some("UNCERT"), unit: "nJy" }.put(&mut fits);
            let psf = source(psf_side, 1.0);
            Image { side: psf_side, pixels: &psf, bitpix: -64, name: Some("PSFIMAGE"), unit: "" }.put(&mut fits);
            fits
        })
    }

    pub(super) fn deal(&self, noise: Noise) -> &Stamps {
        &self.0[noise.below(90, self.0.len() as u64) as usize]
    }

    /// `render` gets a function that draws the pixels of a side, and the number of the stamp.
    fn draw(seed: u64, render: impl Fn(&dyn Fn(usize) -> Vec<f64>, usize) -> Vec<u8>) -> Self {
        let set = |number| {
            let noise = Noise::new(seed).of(number);
            let flux = noise.between(1, 50.0, 5000.0);
            // The source is in the science and difference stamps, a fainter neighbour in the template.
            let sources = [(flux, 7.0), (flux / 20.0, 3.0), (flux, 8.0)];
            std::array::from_fn(|stamp| {
                let ((flux, sigma), noise) = (sources[stamp], noise.of(10 + stamp as u64));
                let pixels = |side: usize| {
                    let drawn = source(side, flux).into_iter().enumerate();
                    drawn.map(|(at, value)| value + noise.normal(at as u64, sigma)).collect()
                };
                render(&pixels, stamp).into()
            })
        };
        Self((0..N_SETS).map(set).collect())
    }
}

/// A round Gaussian of this flux in the middle, 2.4 pixels wide at half its height.
fn source(side: usize, flux: f64) -> Vec<f64> {
    let middle = (side as f64 - 1.0) / 2.0;
    let pixel = |at: usize| {
        let (x, y) = ((at % side) as f64 - middle, (at / side) as f64 - middle);
        flux * (-(x * x + y * y) / 2.0).exp() / std::f64::consts::TAU
    };
    (0..side * side).map(pixel).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all bytes")
}
