//! What people, models and other services may be called by somebody who wants to break out of a page, a query or a line.

/// One for each outlet that names end in. Not all of them are allowed as the name of a model.
pub const NAMES: &[&str] = &[
    "<img src=x onerror=alert(1)>",
    "</title><script>alert(1)</script>",
    "\"><svg/onload=alert(1)>",
    "'; drop table outbox; --",
    "a\r\nBcc: everyone@example.com",
    "a\nERROR chassis: a second line",
    "a\r\n\r\n<html>",
    "<!channel>",
    "<@U1>",
    "<https://example.com|click>",
    "{{7*7}} ${7*7} #{7*7} <%= 7 %>",
    "=cmd|' /C calc'!A0",
    "$(touch /tmp/x); `id`",
    "../../etc/passwd",
    "\u{202e}gnp.exe",
    "a\u{2028}b",
    "\u{feff}a\u{200b}b",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
    "nul \0 nul",
    "a\tb\u{b}c\u{7f}",
    "model=\"x\",name=\"y\"} 1",
    "\\\" \\\\ \\n",
    "%0d%0a%00 %s%n {0} {}",
    "{\"json\": [1, null]}",
    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\
     xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "Prüfung 漢字 نموذج \u{1f600}",
];
