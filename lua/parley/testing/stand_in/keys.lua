--- Bytes from the terminal to keys.
---
--- A key is a table: `{kind = "text", text}`, `{kind = "paste", text}` or `{kind = "key", name}`. What one read brings
--- is decoded together; a paste or an escape sequence may be cut by the end of a read and goes on in the next.
local M = {}

local PASTE_START, PASTE_END = "\27[200~", "\27[201~"

local CONTROL = {
  [1] = "home", [2] = "left", [3] = "ctrl-c", [4] = "ctrl-d", [5] = "end", [6] = "right", [7] = "ctrl-g",
  [8] = "backspace",
  [9] = "tab", [10] = "newline", [11] = "ctrl-k", [12] = "ctrl-l", [13] = "return", [14] = "down", [15] = "ctrl-o",
  [16] = "up",
  [19] = "ctrl-s", [21] = "ctrl-u", [23] = "ctrl-w", [24] = "ctrl-x", [25] = "ctrl-y", [127] = "backspace",
}

local SEQUENCES = {
  ["[A"] = "up", ["[B"] = "down", ["[C"] = "right", ["[D"] = "left", ["[H"] = "home", ["[F"] = "end",
  ["OA"] = "up", ["OB"] = "down", ["OC"] = "right", ["OD"] = "left", ["OH"] = "home", ["OF"] = "end",
  ["[1~"] = "home", ["[4~"] = "end", ["[3~"] = "delete", ["[Z"] = "shift-tab", ["[13;2u"] = "newline",
  ["\r"] = "newline", ["\127"] = "ctrl-w",
}

--- Whether bytes are text and line breaks, no keys among them: a long read of them counts as a paste.
---@param bytes string
---@return boolean
function M.is_text(bytes) return not bytes:find "[\0-\8\11\12\14-\31\127]" end

--- How many bytes at the end are the beginning of a character.
local function cut_length(bytes)
  local lead = bytes:match("[\xC2-\xF4][\x80-\xBF]*$")
  if not lead then return 0 end
  local first = lead:byte()
  local needed = first >= 0xF0 and 4 or first >= 0xE0 and 3 or 2
  return #lead < needed and #lead or 0
end

---@class parley.testing.KeyDecoder
---@field private rest string        bytes that cannot be decided yet
---@field private pasting? string[]  the paste that has begun
local Decoder = {}
Decoder.__index = Decoder

---@return parley.testing.KeyDecoder
function M.new() return setmetatable({ rest = "" }, Decoder) end

--- The length of the escape sequence at `start`: a number, nil when it is cut off, 1 when it is the Escape key.
local function sequence_length(bytes, start)
  local second = bytes:sub(start + 1, start + 1)
  if second == "" then return nil end
  if second == "[" then
    local _, last = bytes:find("^[0-?]*[ -/]*[@-~]", start + 2)
    return last and last - start + 1
  elseif second == "O" then
    return bytes:sub(start + 2, start + 2) ~= "" and 3 or nil
  elseif second == "]" or second == "P" or second == "_" then -- a reply of the terminal, up to BEL or ST
    local bell, terminator = bytes:find("\7", start, true), bytes:find("\27\\", start + 1, true)
    if bell and (not terminator or bell < terminator) then return bell - start + 1 end
    return terminator and terminator - start + 2
  elseif second == "\27" then
    return 1
  end
  return 2
end

--- Decodes one key that is not text. Returns it (nil for what means nothing) and where the next begins, or nothing when
--- more bytes are needed.
local function control(bytes, start)
  local byte = bytes:byte(start)
  if byte ~= 27 then
    local name = CONTROL[byte]
    return name and { kind = "key", name = name }, start + 1
  end
  local length = sequence_length(bytes, start)
  if not length then return nil, nil end
  if length == 1 then return { kind = "key", name = "escape" }, start + 1 end
  local name = SEQUENCES[bytes:sub(start + 1, start + length - 1)]
  return name and { kind = "key", name = name }, start + length
end

--- Decodes what one read brought.
---@param chunk string
---@return table[] keys
function Decoder:feed(chunk)
  local bytes, keys, at = self.rest .. chunk, {}, 1
  self.rest = ""
  while at <= #bytes do
    if self.pasting then
      local first, last = bytes:find(PASTE_END, at, true)
      if not first then
        -- the mark itself may be cut: keep what could be its beginning
        local kept = math.max(at, #bytes - #PASTE_END + 2)
        table.insert(self.pasting, bytes:sub(at, kept - 1))
        self.rest = bytes:sub(kept)
        return keys
      end
      table.insert(self.pasting, bytes:sub(at, first - 1))
      table.insert(keys, { kind = "paste", text = table.concat(self.pasting) })
      self.pasting, at = nil, last + 1
    elseif bytes:sub(at, at + #PASTE_START - 1) == PASTE_START then
      self.pasting, at = {}, at + #PASTE_START
    elseif bytes:find("^[%c]", at) then
      local key, following = control(bytes, at)
      if not following then
        self.rest = bytes:sub(at)
        return keys
      end
      table.insert(keys, key)
      at = following
    else
      local _, last = bytes:find("^[^%c]+", at)
      local text = bytes:sub(at, last)
      if last == #bytes then
        local cut = cut_length(text)
        text, self.rest = text:sub(1, #text - cut), text:sub(#text - cut + 1)
      end
      if text ~= "" then table.insert(keys, { kind = "text", text = text }) end
      at = last + 1
    end
  end
  return keys
end

--- Whether a lone Escape waits for more: it is a key when nothing follows. The beginning of a character waits for ever.
---@return boolean
function Decoder:is_waiting() return self.rest:byte() == 27 and not self.pasting end

--- Gives up waiting for the rest of a sequence.
---@return table[] keys
function Decoder:flush()
  local rest = self.rest
  self.rest = ""
  if rest == "" then return {} end
  if rest:sub(1, 1) ~= "\27" then return { { kind = "text", text = rest } } end
  local keys = { { kind = "key", name = "escape" } }
  for _, key in ipairs(self:feed(rest:sub(2))) do table.insert(keys, key) end
  return keys
end

return M
