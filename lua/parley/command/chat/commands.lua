--- What begins with a slash. A command is a function of the chat and the rest of the line.
local uv = require "luv"
local clear = require "parley.claude.clear"
local delivery = require "parley.policy.delivery"
local errors = require "parley.base.errors"
local history = require "parley.base.history"
local messages_file = require "parley.base.messages_file"
local pager = require "parley.command.chat.pager"
local paint = require "parley.command.paint"
local paths = require "parley.claude.paths"
local suggest = require "parley.base.suggest"
local tui = require "parley.claude.tui"

local M = {}

--- Names, arguments and what they do, in the order of the help.
local COMMANDS = {
  { "/help", "", "this list" },
  { "/save", "FILE", "writes the conversation as JSON; /save! replaces any file" },
  { "/load", "FILE", "goes on with a saved one; /load! drops one that is not saved" },
  { "/new", "", "begins a new one; /new! drops one that is not saved" },
  { "/undo", "[N]", "takes the last turn back, or the last N" },
  { "/fork", "", "goes on with a copy; /back returns to where it was made" },
  { "/back", "", "leaves the copy; /back! drops one that is not saved" },
  { "/model", "NAME", "who answers from the next message on: haiku" },
  { "/cost", "", "what the last turn and the conversation have cost" },
  { "/pager", "", "the last answer in $PAGER" },
  { "/session", "", "which claude runs, and where its transcript is" },
  { "/screen", "", "what claude shows right now" },
  { "/claude", "/NAME", "runs one of claude's own commands: /claude /compact" },
  { "/quit", "", "leaves, as Ctrl-D does" },
}

--- The names that every version takes; others go by their whole name.
local MODELS = { "haiku", "opus", "sonnet" }

local KEYS = [[
  //text         sends a text that begins with a slash
  \ and Enter    a new line in the message, as Alt-Enter and Ctrl-J; a paste keeps its
                 lines
  Ctrl-C         interrupts the answer, and a second one leaves; at the prompt it clears
                 the line, and two on an empty one leave
  Tab            completes commands and the names of files
  Up, Down       earlier messages; Ctrl-R finds the one that begins like the line]]

local commands = {}

commands["/help"] = function(chat)
  local rows = {}
  for _, command in ipairs(COMMANDS) do
    table.insert(rows, ("  %-14s %s"):format(command[1] .. (command[2] ~= "" and " " .. command[2] or ""), command[3]))
  end
  chat.output:note(table.concat(rows, "\n") .. "\n" .. KEYS)
end

local function count(messages)
  return ("%d message%s"):format(#messages, #messages == 1 and "" or "s")
end

local function path_of(word, usage)
  if word == "" then error(errors.value_error("which file? " .. usage), 0) end
  local home = os.getenv "HOME"
  if home and word:find "^~/" then word = home .. word:sub(2) end
  return word
end

commands["/save"] = function(chat, word, is_forced)
  local path = path_of(word, "/save FILE")
  if #chat.talk.messages == 0 then error(errors.value_error "there is nothing to save yet", 0) end
  local stat = uv.fs_stat(path)
  if stat and stat.type ~= "file" then error(errors.value_error(("'%s' is a %s"):format(path, stat.type)), 0) end
  local real = stat and uv.fs_realpath(path)
  if stat and real ~= chat.saved_path and not is_forced then
    error(errors.value_error(("'%s' is there already, and not from this conversation: /save! %s replaces it")
      :format(path, word)), 0)
  end
  messages_file.write(path, chat.talk.messages)
  chat.saved_path, chat.saved = uv.fs_realpath(path), #chat.talk.messages
  chat.output:note(("%s %s: %s"):format(stat and "replaced" or "wrote", path, count(chat.talk.messages)), "dim")
end

local function check_saved(chat, is_forced, again)
  local unsaved = #chat.talk.messages - chat.saved
  if unsaved ~= 0 and not is_forced then
    error(errors.value_error(("this conversation is not saved (%s): /save FILE keeps it, %s drops it"):format(
      count(chat.talk.messages), again)), 0)
  end
end

commands["/load"] = function(chat, word, is_forced)
  local path = path_of(word, "/load FILE")
  local messages = messages_file.read(path)
  check_saved(chat, is_forced, "/load! " .. word)
  chat:set_messages(messages)
  chat.saved_path = uv.fs_realpath(path)
  local last = messages[#messages]
  local words = last and history.text_of(last):match "[^\n]*" or ""
  chat.output:note(("loaded %s: %s%s"):format(path, count(messages),
    last and ("; the last is the %s's: %s"):format(last.role, words) or ""), "dim")
end

commands["/new"] = function(chat, _, is_forced)
  check_saved(chat, is_forced, "/new!")
  chat:set_messages {}
  chat.output:note("a new conversation", "dim")
end

commands["/undo"] = function(chat, word)
  local count_back = word == "" and 1 or math.tointeger(tonumber(word))
  if not count_back or count_back < 1 then
    error(errors.value_error(("how many turns? /undo 2, not '%s'"):format(word)), 0)
  end
  local taken = chat.talk:rewind(count_back)
  if #chat.talk.messages < chat.saved then chat.saved = 0 end -- the file has what is gone
  chat:start_ahead()
  chat.output:note(("took back %s: %s"):format(count(taken), history.text_of(taken[1]):match "[^\n]*"), "dim")
end

commands["/fork"] = function(chat)
  table.insert(chat.trunks, { talk = chat.talk, saved = chat.saved, saved_path = chat.saved_path })
  chat:set_talk(chat.talk:fork(), #chat.talk.messages)
  chat.output:note("a copy of the conversation; /back returns to this place", "dim")
end

commands["/back"] = function(chat, _, is_forced)
  if not chat.trunks[1] then error(errors.value_error "there is nothing to go back to: no /fork was made", 0) end
  check_saved(chat, is_forced, "/back!")
  local trunk = table.remove(chat.trunks)
  chat:set_talk(trunk.talk, trunk.saved, trunk.saved_path)
  chat.output:note(("where the copy was made: %s"):format(count(trunk.talk.messages)), "dim")
end

commands["/model"] = function(chat, word)
  if word ~= "" then
    chat.talk.options.model = word
    chat:start_ahead()
  end
  local chosen = chat.talk.options.model or chat.backend.options.model or "the program's own choice"
  local last = chat.model and ("; the last answer is %s's"):format(chat.model) or ""
  chat.output:note(("model          %s%s"):format(chosen, last), word ~= "" and "dim" or nil)
end

commands["/cost"] = function(chat)
  if not chat.backend.options.costs then
    error(errors.value_error "it is not asked what the turns cost: parley chat --costs does so", 0)
  end
  if chat.unknown_costs then error(errors.value_error(chat.unknown_costs), 0) end
  if not chat.last_cost then return chat.output:note "there was no turn yet" end
  chat.output:note(("last turn      $%.4f\nconversation   $%.4f"):format(chat.last_cost, chat.costs[chat.talk] or 0))
end

commands["/pager"] = function(chat)
  local last = chat.talk.messages[#chat.talk.messages]
  local text = last and last.role == "assistant" and history.text_of(last) or ""
  if text == "" then error(errors.value_error "there is no answer yet", 0) end
  chat.input:lend(function() pager.show(paint.plain(text)) end)
end

commands["/session"] = function(chat)
  local messages = chat.talk.messages
  local rows = { ("conversation   %s, %s"):format(count(messages), #messages == chat.saved and "saved"
    or "not saved") }
  local states = chat.backend:session_states()
  for id, process in pairs(chat.backend:live_sessions()) do
    local version = chat.version or tui.version(process.screen:rows()) or "not known yet"
    for _, pair in ipairs {
      { "session", id }, { "transcript", paths.resolve_jsonl_path(id, process.cwd, process.environment) },
      { "process", tostring(process:pid()) }, { "version", version }, { "state", states[id] },
      { "turns", tostring(chat.turns) },
    } do
      table.insert(rows, ("%-14s %s"):format(pair[1], pair[2]))
    end
  end
  if not rows[2] then table.insert(rows, "session        none runs; the next message starts one") end
  chat.output:note(table.concat(rows, "\n"))
end

commands["/screen"] = function(chat)
  local _, process = next(chat.backend:live_sessions())
  if not process then return chat.output:note "no claude runs; the next message starts one" end
  local rows, columns = process.screen:size()
  local rule = ("-"):rep(math.min(chat.output.options.columns() - 1, columns))
  local picture = { rule, process.screen:text(), rule, ("%d rows, %d columns"):format(rows, columns) }
  chat.output:note(table.concat(picture, "\n"), "dim")
end

commands["/claude"] = function(chat, word)
  if word == "" then error(errors.value_error "which command? /claude /compact", 0) end
  local text = word:sub(1, 1) == "/" and word or "/" .. word
  if clear.kind(text) == "clear" then
    error(errors.value_error "use /new: it forgets the conversation on both sides", 0)
  end
  chat:run_command(text)
end

commands["/quit"] = function(chat) chat.is_leaving = true end

--- What each command takes, for the completion.
---@return table<string, string[]|"file"|false>
function M.arguments()
  local takes = {}
  for _, command in ipairs(COMMANDS) do takes[command[1]] = command[2] == "FILE" and "file" or false end
  takes["/model"] = MODELS
  return takes
end

--- The command that claude would see in a text, and how it is run.
---@param text string  valid UTF-8
---@return string? name  nil when it would see none
---@return string? advice
local function command_of_claude(text)
  local name = delivery.command_in(text)
  local own = name and name:match "^/[%w:_-]+"
  return name, own and ("/claude %s runs claude's own"):format(own)
end

--- Why a message was refused, where claude would run it as a command.
---@param text string
---@return string? problem  nil where it would not
function M.problem_of(text)
  if not utf8.len(text) then return nil end
  local name, advice = command_of_claude(text)
  return name and ("claude would run it as the command '%s'%s"):format(name, advice and ": " .. advice or "")
end

--- Runs what the line asks for.
---@param chat parley.Chat
---@param text string  begins with one slash
--- Raises `ValueError` for what it cannot do, and what the command raises.
function M.run(chat, text)
  local name, force, rest = text:match "^(/[^%s!]*)(!?)%s*(.*)$"
  local command = name and commands[name]
  if not command then
    local names = {}
    for i, known in ipairs(COMMANDS) do names[i] = known[1] end
    name = text:match "^%S*"
    local is_own, advice = command_of_claude(text)
    if not is_own then advice = ("/%s sends it as text"):format(name) end
    error(errors.value_error(("there is no command '%s'%s (/help lists them%s)"):format(name,
      suggest.near(name, names), advice and "; " .. advice or "")), 0)
  end
  command(chat, rest:match "^.*%S" or "", force == "!")
end

return M
