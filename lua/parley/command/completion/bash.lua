--- The completion for bash.
local M = {}

local HEAD = [==[
_parley_files() {
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen "$1" -- "$cur")
}
# At which place behind the command an argument is being written, where these options take a word.
_parley_place() {
    local i word is_taken=""
    place=-1
    for ((i = 1; i < COMP_CWORD; i++)); do
        word="${COMP_WORDS[i]}"
        if [[ $word = "=" ]]; then
            is_taken=""; i=$((i + 1))
        elif [[ $is_taken ]]; then
            is_taken=""
        elif [[ " $1 " = *" $word "* ]]; then
            is_taken=1
        elif [[ $word != -* ]]; then
            place=$((place + 1))
        fi
    done
}
_parley() {
    local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}" before="${COMP_WORDS[COMP_CWORD-2]}"
    local command="" options="" values="" kind="none" word head="" place=0 name=""
    if [[ $cur = "=" ]]; then
        cur=""; name="$prev"
    elif [[ $prev = "=" ]]; then
        prev="$before"; name="$prev"
    fi
    for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
        if [[ $word != -* ]]; then command="$word"; break; fi
    done
    if [[ $name && $name != -* ]]; then
        for word in "${COMP_WORDS[@]:COMP_CWORD > 4 ? COMP_CWORD - 4 : 0:4}"; do
            if [[ $word = --policy ]]; then _parley_files -f; return; fi
        done
    fi
]==]

-- In a list each word behind a comma is completed by itself.
local TAIL = [==[
    case "$kind" in
        list) if [[ $cur = *,* ]]; then head="${cur%,*},"; fi ;;
        pairs) compopt -o nospace 2>/dev/null ;;
        sessions) values="$(parley sessions --limit 50 2>/dev/null | sed -n '2,$s/ .*//p')" ;;
        file) _parley_files -f; return ;;
        dir) _parley_files -d; return ;;
        free) COMPREPLY=(); compopt +o default +o bashdefault 2>/dev/null; return ;;
    esac
    if [[ $kind != list && $kind != pairs && $cur = -* ]]; then values="$options"; fi
    COMPREPLY=($(compgen -P "$head" -W "$values" -- "${cur#"$head"}"))
}

complete -F _parley -o bashdefault -o default parley
]==]

--- The shell's words that say what is taken.
local function words_of(taken)
  if taken.kind == "pairs" then return ('kind=pairs values="%s="'):format(table.concat(taken.values, "= ")) end
  if taken.values[1] then return ('kind=%s values="%s"'):format(taken.kind, table.concat(taken.values, " ")) end
  return "kind=" .. taken.kind
end

local function arm_of(command)
  local aliases, takers, cases, places = {}, {}, {}, {}
  for _, option in ipairs(command.options) do
    table.move(option.aliases, 1, #option.aliases, #aliases + 1, aliases)
    if option.takes then
      table.move(option.aliases, 1, #option.aliases, #takers + 1, takers)
      table.insert(cases, ("                %s) %s ;;\n"):format(table.concat(option.aliases, "|"),
        words_of(option.takes)))
    end
  end
  for i, argument in ipairs(command.arguments) do
    if argument.kind ~= "file" then
      table.insert(places, ('            if [[ $place = %d ]]; then %s; fi\n'):format(i - 1,
        words_of(argument):gsub("kind=values ", "")))
    end
  end
  local parts = { ('        %s)\n            options="%s"\n'):format(command.name, table.concat(aliases, " ")),
    places[1] and ('            _parley_place "%s"\n'):format(table.concat(takers, " ")) or "", table.concat(places) }
  if cases[1] then
    table.insert(parts, '            case "$prev" in\n' .. table.concat(cases) .. "            esac\n")
  end
  return table.concat(parts) .. "            ;;\n"
end

---@param commands parley.completion.Command[]
---@return string
function M.write(commands)
  local names, arms = {}, {}
  for i, command in ipairs(commands) do names[i], arms[i] = command.name, arm_of(command) end
  local first = ('        "") options="--help --version --traceback -e" values="%s" ;;\n'):format(
    table.concat(names, " "))
  return HEAD .. '    case "$command" in\n' .. first .. table.concat(arms) .. "    esac\n" .. TAIL
end

return M
