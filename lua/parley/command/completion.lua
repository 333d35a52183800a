--- The completion for bash, made from what the commands say of themselves.
---
--- What an option takes is told by its `values`, a list, where `cli.offer` has given it one, else by its argument's
--- name: FILE, DIR, or something that nobody can guess.
local M = {}

local HEAD = [==[
_parley() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"
    local command="" options="" values="" kind="none" word head=""
    if [[ $cur = "=" ]]; then cur=""; elif [[ $prev = "=" ]]; then prev="${COMP_WORDS[COMP_CWORD-2]}"; fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word != -* ]]; then command="$word"; break; fi
    done
]==]

-- In a list each word behind a comma is completed by itself.
local TAIL = [==[
    case "$kind" in
        list) if [[ $cur = *,* ]]; then head="${cur%,*},"; fi ;;
        file) COMPREPLY=($(compgen -f -- "$cur")); return ;;
        dir) COMPREPLY=($(compgen -d -- "$cur")); return ;;
        free) COMPREPLY=(); compopt +o default +o bashdefault 2>/dev/null; return ;;
    esac
    if [[ $kind = none && $cur = -* ]]; then values="$options"; fi
    COMPREPLY=($(compgen -P "$head" -W "$values" -- "${cur#"$head"}"))
}

complete -F _parley -o bashdefault -o default parley
]==]

--- What stands behind an option: the shell's words that say so; nil for a flag.
local function behind(option)
  if option._maxargs == 0 then return nil end
  local name = tostring(type(option._argname) == "table" and option._argname[1] or option._argname or "")
  if option.values then
    return ('kind=%s values="%s"'):format(name:find "," and "list" or "values", table.concat(option.values, " "))
  end
  return "kind=" .. (name:find "FILE$" and "file" or name == "DIR" and "dir" or "free")
end

local function arm_of(entry)
  local aliases, cases, values = {}, {}, {}
  for _, option in ipairs(entry.parser._options) do
    table.move(option._aliases, 1, #option._aliases, #aliases + 1, aliases)
    local words = behind(option)
    if words then
      table.insert(cases, ("                %s) %s ;;\n"):format(table.concat(option._aliases, "|"), words))
    end
  end
  for _, argument in ipairs(entry.parser._arguments) do values = argument.values or values end
  local lines = { ('        %s)\n            options="%s" values="%s"\n'):format(entry.name, table.concat(aliases, " "),
    table.concat(values, " ")) }
  if cases[1] then
    table.insert(lines, '            case "$prev" in\n' .. table.concat(cases) .. "            esac\n")
  end
  return table.concat(lines) .. "            ;;\n"
end

--- Makes the completion.
---@param entries parley.ManualEntry[]
---@return string  for bash
function M.bash(entries)
  local names, arms = {}, {}
  for i, entry in ipairs(entries) do names[i], arms[i] = entry.name, arm_of(entry) end
  local first = ('        "") options="--help --version --traceback -e" values="%s" ;;\n'):format(
    table.concat(names, " "))
  return HEAD .. '    case "$command" in\n' .. first .. table.concat(arms) .. "    esac\n" .. TAIL
end

return M
