--- The completion for zsh: a file `_parley` in a folder of `$fpath`, or to be sourced behind `compinit`.
local M = {}

local HEAD = [==[
#compdef parley
_parley_sessions() {
  local -a found
  found=(${(f)"$(parley sessions --limit 50 2>/dev/null | sed -n '2,$s/^\([^ ]*\) */\1:/p')"})
  _describe session found
}
_parley_pairs() {
  if compset -P '*='; then _files; else compadd -S = -- "$@"; fi
}
_parley() {
  local curcontext="$curcontext" state line
  typeset -A opt_args
]==]

local TAIL = [==[
    esac ;;
  esac
}
if [[ ${funcstack[1]} = _parley ]]; then _parley "$@"; else compdef _parley parley; fi
]==]

local function quote(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

--- A text in a specification of `_arguments`, where colons and brackets mean something.
local function plain(text) return (text:gsub("[%[%]:\\]", "\\%0")) end

local function action_of(taken)
  local values = table.concat(taken.values, " ")
  if taken.kind == "file" then return "_files" end
  if taken.kind == "dir" then return "_files -/" end
  if taken.kind == "sessions" then return "_parley_sessions" end
  if taken.kind == "values" then return "(" .. values .. ")" end
  if taken.kind == "list" then return "_sequence compadd - " .. values end
  if taken.kind == "pairs" then return "_parley_pairs " .. values end
  return " "
end

local function behind(taken)
  return (taken.is_optional and "::" or ":") .. plain(taken.name) .. ":" .. action_of(taken)
end

--- One specification for each name of an option; one that was given is not offered again under the other.
local function add_option(parts, option)
  for _, alias in ipairs(option.aliases) do
    local head = option.may_repeat and "*" or "(" .. table.concat(option.aliases, " ") .. ")"
    local sign = not option.takes and "" or alias:find "^%-%-" and not option.takes.is_optional and "=" or ""
    table.insert(parts, quote(("%s%s%s[%s]%s"):format(head, alias, sign, plain(option.summary),
      option.takes and behind(option.takes) or "")))
  end
end

local function arm_of(command)
  local parts = {}
  for _, option in ipairs(command.options) do add_option(parts, option) end
  for i, argument in ipairs(command.arguments) do
    local is_list = command.ends_with_list and i == #command.arguments
    table.insert(parts, quote((is_list and "*" or tostring(i)) .. behind(argument)))
  end
  return ("      %s) _arguments -s %s ;;\n"):format(command.name, table.concat(parts, " \\\n        "))
end

---@param commands parley.completion.Command[]
---@return string
function M.write(commands)
  local names, arms = {}, {}
  for i, command in ipairs(commands) do
    names[i] = quote(command.name .. ":" .. plain(command.summary))
    arms[i] = arm_of(command)
  end
  return table.concat { HEAD, "  local -a commands=(\n    ", table.concat(names, "\n    "), "\n  )\n",
    "  _arguments -C '(- *)--help[the commands]' '(- *)--version' '--traceback[where an error came from]' \\\n",
    "    '-e:chunk: ' '1:command:->command' '*::argument:->rest'\n",
    "  case $state in\n    command) _describe command commands; _files ;;\n    rest) case $words[1] in\n",
    table.concat(arms), TAIL }
end

return M
