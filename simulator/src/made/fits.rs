//! Just enough FITS: headers of fixed cards, images of big-endian numbers, both in blocks of 2880 bytes.

const BLOCK: usize = 2880;

/// An image to write. Pixels run along the first axis first.
pub(super) struct Image<'a> {
    /// Pixels along each axis.
    pub side: usize,
    pub pixels: &'a [f64],
    /// Bits per pixel: -32 or -64, as the standard writes floats.
    pub bitpix: i8,
    /// None for the first image of a file.
    pub name: Option<&'a str>,
    pub unit: &'a str,
}

impl Image<'_> {
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        match self.name {
            None => card("SIMPLE", "T", out),
            Some(_) => card("XTENSION", &quoted("IMAGE"), out),
        }
        card("BITPIX", &self.bitpix.to_string(), out);
        card("NAXIS", "2", out);
        card("NAXIS1", &self.side.to_string(), out);
        card("NAXIS2", &self.side.to_string(), out);
        if let Some(name) = self.name {
            card("PCOUNT", "0", out);
            card("GCOUNT", "1", out);
            card("EXTNAME", &quoted(name), out);
        }
        card("BUNIT", &quoted(self.unit), out);
        out.extend_from_slice(format!("{:<80}", "END").as_bytes());
        pad(b' ', out);
        for pixel in self.pixels {
            match self.bitpix {
                -64 => out.extend_from_slice(&pixel.to_be_bytes()),
                _ => out.extend_from_slice(&(*pixel as f32).to_be_bytes()),
            }
        }
        pad(0, out);
    }
}

/// Numbers end in column 30, strings start in column 11.
fn card(key: &str, value: &str, out: &mut Vec<u8>) {
    let text = if value.starts_with('\'') { value.to_string() } else { format!("{value:>20}") };
    out.extend_from_slice(format!("{:<80}", format!("{key:<8}= {text}")).as_bytes());
}

fn quoted(value: &str) -> String {
    format!("'{value:<8}'")
}

fn pad(with: u8, out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(BLOCK), with);
}
