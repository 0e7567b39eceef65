//! Lines of `time,key,size`: seconds, a path, bytes. A first line without numbers is a heading.

use super::Builder;
use crate::requests::encode_target;
use anyhow::{Context, Result, bail};

pub fn read(bytes: &[u8]) -> Result<Builder> {
    let text = std::str::from_utf8(bytes).context("is not text")?;
    let mut builder = Builder::default();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        // The key is what stands between the first comma and the last, so it may hold commas itself.
        let fields = line.split_once(',').and_then(|(time, rest)| Some((time, rest.rsplit_once(',')?)));
        let parsed = fields.and_then(|(time, (key, size))| {
            let seconds = time.trim().parse::<f64>().ok().filter(|seconds| seconds.is_finite())?;
            Some((seconds, key.trim(), size.trim().parse::<u64>().ok()?))
        });
        match parsed {
            Some((seconds, key, size)) if !key.is_empty() => {
                builder.add(seconds, &encode_target(key.trim_start_matches('/')), size)?;
            }
            _ if number == 0 => builder.skipped += 1,
            _ => bail!("line {} is not `time,key,size`: {line:?}", number + 1),
        }
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_blank_lines_and_commas_in_keys_are_fine() {
        let trace = read(b"time,key,size\n0.5,/a/b,10\n\n1.25, x,y ,20\n").unwrap().finish().unwrap();
        assert_eq!(trace.objects[0].target, "a/b");
        assert_eq!(trace.objects[1].target, "x,y");
        assert_eq!(trace.times_ns, [500_000_000, 1_250_000_000]);
        assert_eq!(trace.skipped, 1);
    }

    #[test]
    fn a_bad_line_is_named() {
        for text in ["0,a,1\n0,a\n", "0,a,1\nx,a,1\n", "0,a,1\n0,a,-1\n", "0,a,1\n0,,1\n", "0,a,1\nNaN,a,1\n"] {
            assert!(read(text.as_bytes()).err().unwrap().to_string().contains("line 2"), "{text:?}");
        }
        assert!(read(b"\xff\xfe").is_err());
    }
}
