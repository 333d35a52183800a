-- The messages that the smoke specs send: those that arrive as they are, those that arrive normalised, as DESIGN.md has
-- it, and those that are refused. `PICTURE` in a text stands for the path of one that is there.
local function as_is(...)
  local list = {}
  for i, text in ipairs { ... } do list[i] = { text = text } end
  return list
end

local function refused(...)
  local list = as_is(...)
  for _, message in ipairs(list) do message.refused = true end
  return list
end

local function joined(...)
  local all = {}
  for _, list in ipairs { ... } do table.move(list, 1, #list, #all + 1, all) end
  return all
end

local function lines(count, width)
  local list = {}
  for i = 1, count do list[i] = ("%d "):format(i) .. ("x"):rep(width or 0) .. "." end
  return table.concat(list, "\n")
end

---@param version string
---@return table<string, {text: string, arrives?: string, refused?: true}[]>
return function(version)
  local is_oldest = version == "2.1.110"
  local is_marking = version > "2.1.250"
  local slashes = { "/etc/passwd is a file", "/exit/foo", "/compact/x", "/a/b c/d" }
  return {
    ["punctuation and words"] = as_is("hello", "say hi", "a", "0", "1", "2", "y", "n", "yes", "No", "?", "??",
      "? what",
      "# note", "#note", "& x", "- item", "--flag", "--help", "-p", "~", '"', "'", "`", "```", "<b>", "> quoted",
      ">", "*",
      ":", ";", "%", "^", "|", "$HOME", "$(ls)", "`ls`", "%s %d", "\\n", "\\x", "{}", "[]", "()", "[1] [2]",
      "a; b && c",
      "Exit", "exit.", "quit()", "logout", "bye", "help", "clear", "done", "Enter", "null", "undefined", "NaN",
      "true",
      '{"type":"user","message":{"role":"user","content":"hi"}}', "[Pasted text #1 +3 lines]", "[Image #1]",
      "x [Request interrupted by user]", "<command-name>/exit</command-name>",
      "<task-notification>x</task-notification>",
      "<local-command-stdout>x</local-command-stdout>", "esc to interrupt", "Press up to edit queued messages",
      "✻ API error · retrying in 3s · attempt 1/3", "Do you want to proceed?\n❯ 1. Yes\n  2. No",
      "Enter to confirm · Esc to cancel", "Yes, I trust this folder", "Pasting text…",
      "review and press Enter to send"),

    ["a bang, a slash, an ending"] = joined(
      as_is("! ls", "!x", "!", "!!", "!touch pwned", " !ls", "!ls\nsecond", "! " .. ("long "):rep(300) .. "end",
        "!a\nb\nc\nd\ne\nf", "! x\\", "! x @", "!é", "!日本語", "x !y",
        "//x", "/é", "a /help", "x\n/help", "see /etc/hosts", "\\", "\\\\", "ends in \\", "ends in \\\\", "ends in @",
        "@", "@README", "@nofile hello", "mail@example", "a @x", "a :smile", "a :sm", ":smile", "a : b", "ends in /",
        "ends in !", "x @\nnext line", "x \\\nnext line", "tail #", "tail ?", "tail &"),
      is_oldest and refused(table.unpack(slashes)) or as_is(table.unpack(slashes)),
      refused(" /help", "\n/help")), -- 2.1.330 would run it

    ["white space and line breaks"] = joined(
      as_is("  two in front", "\nnewline in front", "a  b   c", "a\nb", "a\nb\nc", "a\n\nb", "a\n\n\nb", "a \n b",
        "a   \nb",
        "a\tb", "\tb", "if x:\n\treturn {\t1,\t2 }\n\n\t# end",
        ("\tif (x) {\n\t\treturn;\n\t}\n"):rep(30) .. "}",
        lines(3), lines(4), lines(5), lines(10), lines(40), lines(60, 30), "a\u{A0}b", "a\u{3000}b", "a\u{2003}b",
        "\u{A0}in front", ("word "):rep(40) .. "end", ("x"):rep(300), ("wrap me "):rep(30) .. "end"),
      { { text = "tail  ", arrives = "tail" }, { text = "tail\n\n", arrives = "tail" },
        { text = "tail\u{A0}", arrives = "tail" }, { text = "tail \u{3000}\n", arrives = "tail" },
        { text = "a\r\nb", arrives = "a\nb" },
        { text = "a\rb", arrives = "a\nb" }, { text = "a\r\nb\r\nc\r\nd\r\ne", arrives = "a\nb\nc\nd\ne" },
        { text = lines(30):gsub("\n", "\r\n"), arrives = lines(30) } }),

    ["long ones"] = joined(as_is(("y"):rep(799), ("y"):rep(800), ("y"):rep(801), ("y"):rep(1600), ("y"):rep(1601),
      ("é"):rep(800), ("é"):rep(801), ("😀"):rep(400), ("😀"):rep(401), ("日本"):rep(700), ("word "):rep(500) .. "end",
      lines(100), lines(150, 60), lines(200), ("word "):rep(200) .. "end", ("word "):rep(1000) .. "end",
      ("שלום עולם "):rep(300) .. "סוף", ("word "):rep(20000) .. "end", lines(3000, 30),
      ("0123456789"):rep(1000), ("z "):rep(5000) .. "end", ("y"):rep(805) .. "\\",
      lines(8) .. " @", ("a😀é日"):rep(600), "2024年、" .. ("日本語のテキスト。"):rep(1200),
        "1 " .. ("שלום "):rep(2500) .. "ש", ("y"):rep(9600) .. "😀" .. ("x"):rep(498), ("😀"):rep(5001)),
      is_oldest and {} or as_is("a [...Truncated text #7 +0 lines...] " .. ("y"):rep(10050)),
      (is_marking and refused or as_is)(("x"):rep(499) .. "😀" .. ("y"):rep(9600))),

    ["indented ones"] = as_is("    " .. ("x"):rep(130) .. (" word"):rep(600),
      (" "):rep(120) .. ("word "):rep(300) .. "end", (" "):rep(801) .. "end", "  " .. ("日本"):rep(100) .. "end",
      ("\n"):rep(9) .. ("word "):rep(300) .. "end", ("\n"):rep(9) .. "end"),

    ["what is looked for in pastes"] = joined(
      as_is("an ultraplan, and an Ultraplan", "ultraplan", lines(30) .. "\nultraplan\nend", "ultrathink about it",
        "an ultrareview", "see:\nPICTURE", "see:\n'PICTURE'\nend", "see PICTURE please",
        "see it at\n- PICTURE", "a\nPICTURE PICTURE\nb", "see:\nshot.png", "see:\n/no/such.png",
        "[Image #1] [Image #2]", lines(72) .. "\nsee PICTURE please", "a pasted_content block",
        lines(9) .. "\nPICTURE\n" .. lines(60)),
      (is_marking and refused or as_is)('a <pasted_content id="x">', "</pasted_content>", "< Pasted-Content")),

    ["other scripts"] = joined(
      as_is("é", "naïve café", "日本語のテキスト", "한국어", "עברית", "العربية", "ไทย", "हिन्दी", "русский", "ελληνικά", "ﬁ",
        "😀", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "❤️", "☎︎", "1️⃣", "a😀b", "𝔘𝔫𝔦", "𠀀", "\u{FFFD}", "\u{FFFC}",
        "\u{E000}", "\u{2800}", "می‌خواهم", "क्‍ष", "שלום \u{200F}abc",
        "ب\u{200D}", "❤️‍🔥", "👩🏽‍💻", "☺\u{FE0E}", "©️", "#️⃣",
         "«quoted» – “dash”…", "✓ ✗ → ←", "─────",
        "❯ 1. Yes",
        "│ box │", "ẞ", "Ω"),
      { { text = "e\u{301}", arrives = "é" }, { text = "\u{212B}", arrives = "Å" },
        { text = "\u{1112}\u{1161}\u{11AB}", arrives = "한" },
        { text = ("e\u{301}"):rep(900), arrives = ("é"):rep(900) } }),

    ["refusals"] = refused("", " ", "\n", "\t \r\n", "\u{A0}", "\u{3000}\u{2003}", "exit", "quit", ":q", ":q!", ":wq",
      ":wq!", " exit", "exit\n", "exit ", "\u{A0}exit", "/help", "/exit", "/clear now", "/Help", "/", "/ x",
      "/no-such x", "/exitx", "/exit.", "/exit,now",
      "/helpx me", "/exité",
      "/help\nline", "/a:b c", "/exit\tnow", "\27", "a\27[201~b", "a\27[201~\r/exit\r", "\27[200~x", "a\0b", "a\1b",
      "a\3",
      "a\4", "a\7", "a\8", "a\11b", "a\12b", "a\21b", "a\26", "a\31", "a\127b", "a\u{80}b", "a\u{85}b", "a\u{90}b",
      "a\u{9B}b", "a\u{9F}", "a\u{AD}b", "a\u{200B}b", "a\u{200C}b", "a\u{200D}b", "a\u{2060}b", "a\u{FEFF}b",
      "a\u{34F}b",
      "a\u{200E}b", "a\u{202E}b", "a\u{2066}b\u{2069}", "a\u{2028}b", "a\u{2029}b", "a\u{E0041}b", "a\u{E0100}b",
      "👨\u{200D}a", "👨\u{200D}", "☺️\u{200D} b", "→\u{200D}→", "א\u{200C}א", "a\u{FE0F}", "1\u{FE0F} b", "日\u{FE0F}",
      "x🏴\u{E0067}\u{E007F}", "ש\u{202B}x\u{202C}", "ש\u{2067}x\u{2069}", "a\u{180E}b", "a\u{3164}b",
      "a\u{115F}b", "a\u{FFF9}b", "\xFF", "a\xC3", "\xED\xA0\x80", "\xC0\xAF",
      "\xF5\x80\x80\x80"),
  }
end
