--- The command line of `claude`, as far as the stand-in cares: the flags it acts on, and the words the others take.
local M = {}

--- What a flag is followed by. `optional` takes the next word unless it looks like a flag; `variadic` takes all such;
--- `each` takes one, and may come again.
local ARITY = {
  ["--session-id"] = "one", ["--resume"] = "optional", ["-r"] = "optional", ["--permission-mode"] = "one",
  ["--model"] = "one", ["--settings"] = "one", ["--system-prompt"] = "one", ["--append-system-prompt"] = "one",
  ["--allowedTools"] = "variadic", ["--allowed-tools"] = "variadic", ["--disallowedTools"] = "variadic",
  ["--disallowed-tools"] = "variadic", ["--mcp-config"] = "variadic", ["--add-dir"] = "variadic",
  ["--effort"] = "one", ["--setting-sources"] = "one", ["--agents"] = "one", ["--tools"] = "variadic",
  ["--fallback-model"] = "one", ["--betas"] = "variadic", ["--plugin-dir"] = "each", ["--name"] = "one",
  ["--fork-session"] = "none", ["--dangerously-skip-permissions"] = "none", ["--strict-mcp-config"] = "none",
  ["--continue"] = "none", ["-c"] = "none", ["--debug"] = "none", ["--verbose"] = "none", ["--version"] = "none",
  ["-v"] = "none", ["--help"] = "none", ["-h"] = "none", ["--disable-slash-commands"] = "none", ["--ide"] = "none",
  ["--allow-dangerously-skip-permissions"] = "none",
}

local SHORT = { ["-r"] = "--resume", ["-v"] = "--version", ["-h"] = "--help", ["-c"] = "--continue" }

local MODES = { acceptEdits = true, auto = true, bypassPermissions = true, default = true, dontAsk = true, plan = true }

--- A message that is one of these words, behind `--` too, is a command of another kind: no session begins.
local COMMANDS = { mcp = true, doctor = true, update = true, plugin = true, install = true }

--- The first message among the words. `code` is taken for a mistake.
local function prompt_of(words)
  local text = words[1] and table.concat(words, " ")
  if text and COMMANDS[words[1]] then return nil, words[1] end
  return text ~= "code" and text or nil
end

local function is_flag(word) return word and #word > 1 and word:sub(1, 1) == "-" end

--- Reads a command line.
---@param words string[]
---@return table? flags   name without dashes to `true`, a word, or a list of words; `prompt` is the rest, or `command`
---@return string? problem  one line, when the real program would refuse to start
function M.parse(words)
  local flags, prompt = {}, {}
  local index = 1
  while index <= #words do
    local word = words[index]
    local name, attached = word:match "^(%-%-[^=]+)=(.*)$"
    name = name or word
    local arity = ARITY[name]
    index = index + 1
    if word == "--" then
      table.move(words, index, #words, #prompt + 1, prompt)
      break
    elseif not is_flag(word) then
      table.insert(prompt, word)
    elseif not arity then
      return nil, ("error: unknown option '%s'"):format(word)
    else
      local key = (SHORT[name] or name):gsub("^%-%-", "")
      if arity == "none" then
        flags[key] = true
      elseif arity == "each" and (attached or words[index]) then
        flags[key] = flags[key] or {}
        table.insert(flags[key], attached or words[index])
        if not attached then index = index + 1 end
      elseif attached then
        flags[key] = arity == "variadic" and { attached } or attached
      elseif arity == "variadic" then
        local values = flags[key] or {}
        while words[index] and not is_flag(words[index]) do
          table.insert(values, words[index])
          index = index + 1
        end
        flags[key] = values
      elseif words[index] and (arity == "one" or not is_flag(words[index])) then
        flags[key] = words[index]
        index = index + 1
      elseif arity == "one" or arity == "each" then
        return nil, ("error: option '%s <value>' argument missing"):format(name)
      else
        flags[key] = true
      end
    end
  end
  local mode = flags["permission-mode"]
  if mode and not MODES[mode] then
    return nil, ("error: option '--permission-mode <mode>' argument '%s' is invalid."):format(mode)
  end
  flags.prompt, flags.command = prompt_of(prompt)
  return flags
end

return M
