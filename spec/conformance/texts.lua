-- What is sent to every version: the awkward short texts, the long ones, and what must not be sent.
local corpus = require "spec.smoke.corpus"

local M = {}

local function rows(count, format)
  local list = {}
  for number = 1, count do list[number] = format:format(number) end
  return table.concat(list, "\n")
end

--- A text of so many bytes in lines of 80, of which no two are alike: one that is lost or doubled shows.
local function block(bytes)
  return rows(bytes // 80 + 1, "%07d " .. ("lorem ipsum "):rep(5) .. "dolor sit a"):sub(1, bytes - 3) .. "end"
end

local CODE = [[
#!/usr/bin/env lua
local function greet(name) -- says hello
  if name == "" then return nil, "who?" end
  local text = ("hello, %s!\n"):format(name:gsub("[^%w]", "\\%0"))
  io.write(text, '$HOME', `ls`, "C:\\temp\\", "a && b || c; !!")
  return { ["@key"] = text, list = { 1, 2, 3 } }
end

# a heading, and then
/* a comment */ <tag attribute="x">&amp;</tag>
{"json": [null, true, 1e-3, "\u00e9"]}
> quoted
    * indented
%d %s $(pwd) ${PATH} ~/.profile ^[[A
greet(arg[1])]]

--- The columns of long and of shaped texts, in order.
M.LONG = {
  { "1 kB", block(1000) },
  { "5 kB", block(5000) },
  { "60 lines", rows(60, "line %d of sixty") },
  { "200 lines", rows(200, "line %d of two hundred") },
  { "tabs", "all:\n\tfirst\n\t\tsecond\tthird\nend" },
  { "CRLF", rows(12, "row %d\r") .. "\nend", rows(12, "row %d") .. "\nend" },
  { "code", CODE },
  { "emoji", rows(20, "%d 😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ 1️⃣ a😀b 🏳️‍🌈") },
  { "right to left", rows(20, "%d שלום עולם (abc) مرحبا بالعالم، 123 نهاية") },
  { "100 kB", block(100000) },
  { "1 MB", block(1000000) },
}

--- The corpora of awkward texts, and those that are taken for none of them: they are long, or name a file to attach.
local GROUPS = { "punctuation and words", "a bang, a slash, an ending", "white space and line breaks", "other scripts" }

--- Every so many of them, spread over all groups, so that a version takes seconds.
local SHARE = 12

--- A share of the corpora: the texts, and what may arrive.
---@return {text: string, arrives?: string}[]
function M.awkward()
  local all, texts = corpus "", {}
  for _, name in ipairs(GROUPS) do
    for index, message in ipairs(all[name]) do
      if index % SHARE == 1 and #message.text < 1000 and not message.refused then table.insert(texts, message) end
    end
  end
  return texts
end

--- Keys, commands and ends of pastes: what would do something else than arrive.
M.FORBIDDEN = { "", " \n", "exit", ":q!", "/help", "/exit", "/no-such x", "a\27[201~\r/exit\r", "a\27b", "a\0b", "a\3",
  "a\127b", "\xFF", "\xED\xA0\x80" }

return M
