pub fn compare(_: &[String;2], _: &super::json::Run, _: &super::json::Run) -> String { String::new() }
