--- What a terminal sends, as keys. Bytes may come cut anywhere; a sequence that means nothing here is dropped, so that
--- no part of it becomes text.
local M = {}

local ESCAPE = "\27"
local PASTE_BEGIN, PASTE_END = "\27[200~", "\27[201~"
local REPLACEMENT = "\u{FFFD}"

---@class parley.Key
---@field name string   an action of `parley.Line`, or `"text"`, `"paste"`, `"submit"`, `"newline"`, `"up"`, `"down"`,
---                     `"complete"`, `"interrupt"`, `"end_of_input"`, `"suspend"`
---@field text? string  of `"text"` and `"paste"`
---@field replaced? integer  so many characters of a paste no message may hold: U+FFFD stands for each

--- The control characters.
local CONTROLS = {
  [1] = "home", [2] = "left", [3] = "interrupt", [4] = "end_of_input", [5] = "end", [6] = "right", [8] = "erase",
  [9] = "complete", [10] = "newline", [11] = "kill_to_end", [12] = "clear_screen", [13] = "submit", [14] = "down",
  [16] = "up",
  [18] = "search_back", [19] = "search_forward", [20] = "transpose", [21] = "kill_to_start", [23] = "erase_word",
  [25] = "yank", [26] = "suspend", [127] = "erase",
}

--- What follows ESC, in the spellings of xterm, rxvt, the Linux console, tmux and kitty. Alt is ESC before the key.
local SEQUENCES = {
  ["[A"] = "up", ["[B"] = "down", ["[C"] = "right", ["[D"] = "left", ["[H"] = "home", ["[F"] = "end",
  ["OA"] = "up", ["OB"] = "down", ["OC"] = "right", ["OD"] = "left", ["OH"] = "home", ["OF"] = "end",
  ["[1~"] = "home", ["[7~"] = "home", ["[4~"] = "end", ["[8~"] = "end", ["[3~"] = "delete",
  ["[1;5C"] = "word_right", ["[1;3C"] = "word_right", ["Oc"] = "word_right", ["f"] = "word_right",
  ["[1;5D"] = "word_left", ["[1;3D"] = "word_left", ["Od"] = "word_left", ["b"] = "word_left",
  ["[3;5~"] = "delete_word", ["[3;3~"] = "delete_word", ["d"] = "delete_word",
  ["\127"] = "erase_word", ["\8"] = "erase_word", ["p"] = "search_back", ["n"] = "search_forward",
  ["\r"] = "newline", ["\n"] = "newline", ["[13;2u"] = "newline", ["[13;3u"] = "newline", ["[27;2;13~"] = "newline",
  ["[27;3;13~"] = "newline",
}

---@class parley.KeyDecoder
---@field package rest string  what has come and is not decided yet
---@field package pasted? string[]  what has come of a paste whose end is missing
local Decoder = {}
Decoder.__index = Decoder

--- Makes a decoder.
---@param on_key fun(key: parley.Key)
---@return parley.KeyDecoder
function M.new(on_key) return setmetatable({ rest = "", on_key = on_key }, Decoder) end

--- A pasted text with line feeds, and without what no message may hold; and how much of that there was.
local function normal(bytes)
  local pieces, at, replaced = {}, 1, 0
  local _, broken = utf8.len(bytes)
  while broken do
    table.insert(pieces, bytes:sub(at, broken - 1) .. REPLACEMENT)
    at, replaced = broken + 1, replaced + 1
    _, broken = utf8.len(bytes, at)
  end
  local text = (table.concat(pieces) .. bytes:sub(at)):gsub("\r\n?", "\n")
  for _, controls in ipairs { "[\0-\8\11-\31\127]", "\xC2[\x80-\x9F]" } do
    local count
    text, count = text:gsub(controls, REPLACEMENT)
    replaced = replaced + count
  end
  return text, replaced
end

--- Takes what belongs to the paste. Returns what follows it, and nil while its end is missing.
local function take_paste(self, text)
  local from, to = text:find(PASTE_END, 1, true)
  if not from then
    local sure = math.max(0, #text - #PASTE_END + 1) -- the end may have begun behind that
    table.insert(self.pasted, text:sub(1, sure))
    self.rest = text:sub(sure + 1)
    return nil
  end
  table.insert(self.pasted, text:sub(1, from - 1))
  local pasted, replaced = normal(table.concat(self.pasted))
  self.pasted = nil
  if pasted ~= "" then self.on_key { name = "paste", text = pasted, replaced = replaced > 0 and replaced or nil } end
  return text:sub(to + 1)
end

--- The length of the sequence that begins with ESC, or nil while its end is missing.
local function sequence_length(text)
  local second = text:sub(2, 2)
  if second == "" then return nil end
  if second == "[" then
    local _, last = text:find("^[\x20-\x3f]*[\x40-\x7e]", 3)
    if last then return last end
    local _, parameters = text:find("^[\x20-\x3f]*", 3)
    return parameters < #text and parameters or nil -- what cannot go on a sequence ends it
  end
  if second == "O" then return #text >= 3 and 3 or nil end
  if second == ESCAPE then return 1 end
  return 2
end

--- The length of the UTF-8 character at the start; nil while bytes are missing, and false for none.
local function character_length(text)
  local lead = text:byte()
  local length = lead < 0x80 and 1 or lead >= 0xf0 and lead < 0xf5 and 4 or lead >= 0xe0 and lead < 0xf0 and 3
    or lead >= 0xc2 and lead < 0xe0 and 2
  if not length then return false end
  if #text < length then
    if text:find "^.[\x80-\xbf]*$" then return nil end
    return false
  end
  return utf8.len(text:sub(1, length)) == 1 and length
end

--- Takes one key off the start of the text. Returns what is left, and nil when more has to come.
local function take(self, text)
  if self.pasted then return take_paste(self, text) end
  if text:sub(1, 1) == ESCAPE then
    if text:sub(1, #PASTE_BEGIN) == PASTE_BEGIN then
      self.pasted = {}
      return text:sub(#PASTE_BEGIN + 1)
    end
    local length = sequence_length(text)
    if not length then return nil end
    local name = SEQUENCES[text:sub(2, length)]
    if name then self.on_key { name = name } end
    return text:sub(length + 1)
  end
  local control = CONTROLS[text:byte()]
  if control then
    self.on_key { name = control }
    return text:sub(2)
  end
  local printable = text:match "^[\x20-\x7e]+"
  if printable then
    self.on_key { name = "text", text = printable }
    return text:sub(#printable + 1)
  end
  local length = character_length(text)
  if length == nil then return nil end
  local is_text = length and text:byte() >= 0x80 and not text:find "^\xc2[\x80-\x9f]"
  if is_text then self.on_key { name = "text", text = text:sub(1, length) } end
  return text:sub((length or 1) + 1)
end

--- Takes in bytes and reports the keys that are whole. Ctrl-C that comes alone is no part of a paste: its end was lost.
---@param bytes string  of one read
function Decoder:feed(bytes)
  if self.pasted and bytes:find "^\3+$" then bytes = PASTE_END .. bytes end
  self.rest = self.rest .. bytes
  while self.rest ~= "" do
    local rest = take(self, self.rest)
    if not rest then return end
    self.rest = rest
  end
end

--- Whether an ESC waits, which is no sequence if nothing follows soon. Half the mark of a paste is in no doubt: without
--- the other half the paste would be typed, and its line ends would send it.
---@return boolean
function Decoder:is_in_doubt()
  local rest = self.rest
  if self.pasted or rest:sub(1, 1) ~= ESCAPE then return false end
  return #rest <= 2 or PASTE_BEGIN:sub(1, #rest) ~= rest
end

--- Drops what nothing has followed.
function Decoder:settle()
  if self:is_in_doubt() then self.rest = "" end
end

return M
