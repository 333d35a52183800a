--- The completion for fish.
local M = {}

local HEAD = [==[
# The word that names the command is the first that is no option.
function __parley_is
    for word in (commandline -opc)[2..-1]
        string match -q -- '-*' $word; and continue
        test "$word" = "$argv[1]"
        return
    end
    test -z "$argv[1]"
end
# At which place behind the command an argument is being written, where the options behind the number take a word.
function __parley_place
    set -l place -1
    set -l is_taken no
    for word in (commandline -opc)[2..-1]
        if test $is_taken = yes
            set is_taken no
        else if contains -- $word $argv[2..-1]
            set is_taken yes
        else if not string match -q -- '-*' $word
            set place (math $place + 1)
        end
    end
    test $place = $argv[1]
end
function __parley_list
    set -l head (string replace -r -- '[^,]*$' '' (string replace -r -- '^--[^=]*=' '' (commandline -ct)))
    printf "$head%s\n" $argv
end
function __parley_pairs
    set -l word (string replace -r -- '^--[^=]*=' '' (commandline -ct))
    if string match -q -- '*=*' $word
        set -l name (string split -m 1 = -- $word)
        printf "$name[1]=%s\n" (__fish_complete_path $name[2])
    else
        printf '%s=\n' $argv
    end
end
function __parley_sessions
    parley sessions --limit 50 2>/dev/null | string match -r -v '^ID ' | string replace -r '^(\S+) +' '$1\t'
end
complete -c parley -n "__parley_is ''" -l help -d 'the commands'
complete -c parley -n "__parley_is ''" -l version
complete -c parley -n "__parley_is ''" -l traceback -d 'where an error came from'
complete -c parley -n "__parley_is ''" -s e -x -d 'run a line of Lua'
]==]

local function quote(text) return "'" .. text:gsub("[\\']", "\\%0") .. "'" end

--- What is offered of a thing that is taken, as words of `complete`.
local function offers(taken)
  local values = table.concat(taken.values, " ")
  if taken.kind == "file" then return "-F" end
  if taken.kind == "dir" then return "-f -a '(__fish_complete_directories)'" end
  if taken.kind == "values" then return "-f -a " .. quote(values) end
  if taken.kind == "sessions" then return "-f -k -a '(__parley_sessions)'" end
  if taken.kind == "list" then return "-f -a " .. quote("(__parley_list " .. values .. ")") end
  if taken.kind == "pairs" then return "-f -a " .. quote("(__parley_pairs " .. values .. ")") end
  return "-f"
end

local function names_of(option)
  local names = {}
  for i, alias in ipairs(option.aliases) do
    names[i] = alias:find "^%-%-" and "-l " .. alias:sub(3) or "-s " .. alias:sub(2)
  end
  return table.concat(names, " ")
end

---@param commands parley.completion.Command[]
---@return string
function M.write(commands)
  local lines = { HEAD }
  for _, command in ipairs(commands) do
    table.insert(lines, ("complete -c parley -n \"__parley_is ''\" -a %s -d %s\n"):format(command.name,
      quote(command.summary)))
    local head, takers = ('complete -c parley -n "__parley_is %s'):format(command.name), {}
    for _, option in ipairs(command.options) do
      local takes = option.takes
      if takes then table.move(option.aliases, 1, #option.aliases, #takers + 1, takers) end
      table.insert(lines, ('%s" %s -d %s%s\n'):format(head, names_of(option), quote(option.summary),
        takes and (takes.is_optional and " " or " -r ") .. offers(takes) or ""))
      if takes and takes.is_optional then -- fish knows no such option: what may stand behind it is an argument
        table.insert(lines, ('%s; and string match -q -- %s (commandline -opc)[-1]" %s\n'):format(head,
          option.aliases[#option.aliases], offers(takes)))
      end
    end
    for i, argument in ipairs(command.arguments) do
      if argument.kind ~= "file" then
        table.insert(lines, ('%s; and __parley_place %d %s" %s\n'):format(head, i - 1, table.concat(takers, " "),
          offers(argument)))
      end
    end
  end
  return table.concat(lines)
end

return M
