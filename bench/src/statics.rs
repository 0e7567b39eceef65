//! The files of an ordinary site: 20 of 3 to 300 KiB, of which 15 are text with `.br` and `.gz` variants beside them.
//!
//! Their bytes are made here, from a seed, as compressible as such files are: text of a vocabulary whose words are used
//! as 1/rank, with the punctuation of its kind; what is compressed already (WOFF2, WebP) is noise.

use anyhow::{Context, Result};
use std::{
    fs,
    io::{Read, Write},
    path::Path,
};

/// Names, sizes in KiB, and the kind by the name's ending.
const FILES: [(&str, usize); 20] = [
    ("index.html", 18),
    ("about.html", 9),
    ("article.html", 42),
    ("reset.css", 3),
    ("layout.css", 14),
    ("theme.css", 36),
    ("vendor.css", 160),
    ("app.js", 96),
    ("vendor.js", 300),
    ("analytics.js", 21),
    ("polyfills.js", 64),
    ("logo.svg", 5),
    ("icons.svg", 28),
    ("data.json", 75),
    ("strings.json", 12),
    ("regular.woff2", 24),
    ("bold.woff2", 26),
    ("hero.webp", 210),
    ("portrait.webp", 48),
    ("thumbnail.webp", 7),
];

/// The best that each encoder does: the work of a build, done once.
const BROTLI_QUALITY: i32 = 11;
const BROTLI_WINDOW: i32 = 22;

/// Makes the files and their variants in `directory`, and the list of names and sizes that the load asks for.
///
/// # Errors
/// What cannot be written.
pub fn make(directory: &Path, list: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot create {}", directory.display()))?;
    let mut lines = String::new();
    for (number, (name, kib)) in FILES.into_iter().enumerate() {
        let body = body(name, kib << 10, number as u64);
        let put = |suffix: &str, bytes: &[u8]| {
            let file = directory.join(format!("{name}{suffix}"));
            let written =
                fs::File::create(&file).and_then(|mut out| out.write_all(bytes).and_then(|()| out.sync_data()));
            written.with_context(|| format!("cannot write {}", file.display()))
        };
        // The original first: a variant that is older than its original is not used.
        put("", &body)?;
        if is_text(name) {
            put(".br", &brotli(&body)?)?;
            put(".gz", &gzip(&body)?)?;
        }
        lines.push_str(&format!("{name}\t{}\n", body.len()));
    }
    fs::write(list, lines).with_context(|| format!("cannot write {}", list.display()))
}

/// Whether there are variants of this file.
pub fn is_text(name: &str) -> bool {
    !name.ends_with(".woff2") && !name.ends_with(".webp")
}

/// The bytes as a coding has them back.
///
/// # Errors
/// They are not of that coding.
pub fn decode(coding: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut decoded = Vec::new();
    match coding {
        "br" => brotli::Decompressor::new(bytes, 4096).read_to_end(&mut decoded).context("it is not brotli")?,
        "gzip" => flate2::read::GzDecoder::new(bytes).read_to_end(&mut decoded).context("it is not gzip")?,
        _ => anyhow::bail!("the coding {coding} was not asked for"),
    };
    Ok(decoded)
}

fn brotli(body: &[u8]) -> Result<Vec<u8>> {
    let parameters =
        brotli::enc::BrotliEncoderParams { quality: BROTLI_QUALITY, lgwin: BROTLI_WINDOW, ..Default::default() };
    let mut coded = Vec::new();
    brotli::BrotliCompress(&mut &body[..], &mut coded, &parameters).context("cannot compress")?;
    Ok(coded)
}

fn gzip(body: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body)?;
    Ok(encoder.finish()?)
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`; small numbers more often, as 1/(number + 1).
    fn rank(&mut self, end: usize) -> usize {
        let uniform = (self.next() >> 11) as f64 / (1u64 << 53) as f64;
        ((end as f64 + 1.0).powf(uniform) as usize - 1).min(end - 1)
    }
}

fn body(name: &str, size: usize, seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    let mut body = Vec::with_capacity(size + 64);
    if !is_text(name) {
        while body.len() < size {
            body.extend_from_slice(&random.next().to_le_bytes());
        }
        body.truncate(size);
        return body;
    }
    let letters = b"etaoinshrdlucmfwypvbgkjqxz";
    let words: Vec<String> = (0..1500)
        .map(|_| (0..2 + random.next() % 9).map(|_| letters[random.rank(letters.len())] as char).collect())
        .collect();
    let signs: &[&str] = match name.rsplit('.').next() {
        Some("html") => &[" ", "</p>\n<p>", "<a href=\"/", "\">", "</a> ", "<div class=\"", "\">\n", "</div>\n"],
        Some("css") => &[": ", ";\n  ", " {\n  ", "}\n.", " .", "px ", "#", ";\n}\n"],
        Some("js") => &["(", ");\n", ".", " = ", ";\n  const ", "function ", "() {\n", "}\n", " => ", "return "],
        Some("svg") => &[" d=\"M", " L", ",", "\"/>\n<path", " fill=\"#", "\" ", "</g>\n<g class=\""],
        _ => &["\": \"", "\",\n  \"", "\": ", ",\n  \"", "{\n  \"", "\"\n},\n"],
    };
    while body.len() < size {
        body.extend_from_slice(words[random.rank(words.len())].as_bytes());
        body.extend_from_slice(signs[random.rank(signs.len())].as_bytes());
        if random.next().is_multiple_of(8) {
            body.extend_from_slice((random.next() % 1000).to_string().as_bytes());
        }
    }
    body.truncate(size);
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_of_the_sizes_and_as_compressible_as_asked() {
        let directory = tempfile::tempdir().expect("a directory");
        let list = directory.path().join("list");
        let files = directory.path().join("site");
        make(&files, &list).expect("made");
        let names = fs::read_to_string(&list).expect("a list");
        assert_eq!(names.lines().count(), 20);
        let (mut variants, mut plain, mut coded) = (0, 0, 0);
        for (name, kib) in FILES {
            let body = fs::read(files.join(name)).expect("written");
            assert_eq!(body.len(), kib << 10, "{name}");
            assert!((3..=300).contains(&kib), "{name}");
            for (suffix, coding) in [(".br", "br"), (".gz", "gzip")] {
                let Ok(variant) = fs::read(files.join(format!("{name}{suffix}"))) else { continue };
                assert_eq!(decode(coding, &variant).expect("decoded"), body, "{name}{suffix}");
                (variants, plain, coded) = (variants + 1, plain + body.len(), coded + variant.len());
            }
        }
        assert_eq!(variants, 30);
        // Real ones are at a quarter to a fifth.
        let share = coded as f64 / plain as f64;
        assert!((0.15..0.40).contains(&share), "{share}");
        assert!(decode("br", b"no brotli at all").is_err());
    }
}
