//! What the formats say of one record. What becomes of whole traces stands with those who read them.

use super::*;

/// Every record: its name, its bytes, and when.
fn records(text: impl AsRef<[u8]>) -> Vec<(String, u64, Option<f64>)> {
    let mut records = Vec::new();
    let taken = read(text.as_ref(), None, |record| {
        records.push(match record {
            Record::Request(Request { name: Name::Number(number), size, seconds }) => {
                (number.to_string(), size, seconds)
            }
            Record::Request(Request { name: Name::Text(text), size, seconds }) => {
                (String::from_utf8_lossy(text).into_owned(), size, seconds)
            }
            Record::Other => ("other".to_owned(), 0, None),
            Record::Broken(wrong) => (wrong, 0, None),
        });
        Ok(())
    });
    taken.unwrap();
    records
}

fn own(name: &str, size: u64, seconds: impl Into<Option<f64>>) -> (String, u64, Option<f64>) {
    (name.to_owned(), size, seconds.into())
}

#[test]
fn times_are_read_where_a_format_has_them() {
    let mut binary = Vec::new();
    binary.extend(7u32.to_le_bytes());
    binary.extend((1u64 << 40).to_le_bytes());
    binary.extend(100u32.to_le_bytes());
    binary.extend((-1i64).to_le_bytes());
    assert_eq!(records(binary), [own("1099511627776", 100, 7.0)]);
    let rows = "0.5,/a/b,10\n1.25,\"x,y\",20\nNaN,a,1\nnow,a,1\n";
    let expected = [own("/a/b", 10, 0.5), own("x,y", 20, 1.25), own("a", 1, None), own("a", 1, None)];
    assert_eq!(records(rows), expected);
    assert_eq!(records("size,key,timestamp\n1,a,2.5\n"), [own("a", 1, 2.5)]);
    assert_eq!(records("size,key\n1,a\n"), [own("a", 1, None)]);
}

#[test]
fn answered_gets_are_requests_and_other_lines_are_told_apart() {
    let log = "1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET /a%20b.gif?x=1 HTTP/1.0\" 200 2326 \"-\" \"curl\"\n\
        1.2.3.4 - [x] [10/Oct/2000:13:55:35 -0700] \"GET /c HTTP/1.0\" 304 -\n\
        1.2.3.4 - - [once] \"GET /d HTTP/1.0\" 200 1\n\
        1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"POST /d HTTP/1.0\" 200 1\n\
        1.2.3.4 - - [10/Oct/2000:13:55:36 -0700] \"GET /e HTTP/1.0\" 404 1\n\
        nonsense\n";
    let expected = [
        own("/a%20b.gif", 2326, 971_211_336.0),
        own("/c", 0, 971_211_335.0),
        own("/d", 1, None),
        own("other", 0, None),
        own("other", 0, None),
        own("no request in quotes, in \"nonsense\"", 0, None),
    ];
    assert_eq!(records(log), expected);
}

#[test]
fn who_refuses_a_record_learns_its_number() {
    let mut seen = 0;
    let refused = read(&b"a,1\nb,2\nc,3\n"[..], None, |_| {
        seen += 1;
        if seen == 2 { Err("enough".to_owned()) } else { Ok(()) }
    });
    assert_eq!(refused.unwrap_err().to_string(), "record 2: enough");
}
