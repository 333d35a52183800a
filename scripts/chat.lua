-- Talks with claude in the terminal, or answers lines from a pipe.
local chat = require "parley.command.chat"
local cli = require "parley.command.cli"

local function define(parser)
  parser:flag("--no-history", "Neither read nor keep the messages typed before.")
  parser:flag("--plain", "Show answers as they were written: no bold, no code in colour (as with NO_COLOR).")
  cli.offer(parser:option("--resume", "Go on with the last conversation of this folder, or with a session's: its id, "
    .. "the beginning of that, or its file."):argname("ID"):args "?", "sessions")
  cli.backend_options(parser)
end

return cli.run({
  name = "chat", summary = "Talks with claude in the terminal, or answers lines from a pipe.", define = define,
  main = chat.main,
  examples = [[
  parley chat --cwd /src/thing
  parley chat --resume
  parley chat --model haiku --append-system-prompt "Answer in one line."
  printf '%s\n' "Remember 17." "Double it." /quit | parley chat > answers.txt]],
}, ...)
