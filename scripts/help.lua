-- Prints the help of a command, the man page, or a shell's completion.
local cli = require "parley.command.cli"
local layout = require "parley.command.layout"
local manual = require "parley.command.manual"

local function define(parser)
  cli.offer(parser:argument("command", "The command; without one, all of them in short."):args "?", manual.names())
  parser:mutex(
    parser:flag("--man", "Print the man page, in roff."),
    parser:flag("--bash", "Print a completion for bash."),
    parser:flag("--zsh", "Print one for zsh."),
    parser:flag("--fish", "Print one for fish."))
end

local function main(arguments)
  if arguments.man then
    cli.write(manual.man())
  elseif arguments.bash or arguments.zsh or arguments.fish then
    cli.write(manual.completion(arguments.bash and "bash" or arguments.zsh and "zsh" or "fish"))
  elseif arguments.command then
    cli.write(manual.help(arguments.command, layout.width()), "\n")
  else
    cli.write(package.loaded["parley.bundle"].help())
  end
end

return cli.run({
  name = "help", summary = "Prints the help of a command, the man page, or a shell's completion.", define = define,
  main = main, examples = [[
  parley help ask
  parley help --man | man -l -
  source <(parley help --bash)
  source <(parley help --zsh)     # behind compinit
  parley help --fish | source]],
}, ...)
