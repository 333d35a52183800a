-- Writes a commented start of a policy, a spec or a batch.
local uv = require "luv"
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local suggest = require "parley.base.suggest"

--- What each kind is called as a file, and what is done with it next.
local KINDS = {
  policy = { path = "%s.lua", following = "parley new spec %s; parley ask --policy routing=%s.lua MESSAGE" },
  spec = { path = "spec/%s_spec.lua", of_base = true, following = "parley test" },
  batch = { path = "%s.lua", following = "parley batch %s.lua --stand-in" },
}
local NAMES = { "batch", "policy", "spec" }

local function define(parser)
  cli.offer(parser:argument("kind", "policy (NAME.lua, a routing policy), spec (spec/NAME_spec.lua, of that policy) or "
    .. "batch (NAME.lua, for parley batch)."), NAMES)
  parser:argument("name", "What it is called; a folder may stand before it.")
end

local function refuse(message, ...) error(errors.value_error(message:format(...)), 0) end

local function check_name(given)
  local name = given:gsub("%.lua$", "")
  local base = name:match "([^/]*)$"
  if not base:find "^[%w_][%w_-]*$" or name:find "[^%w_./-]" then
    refuse("'%s' is no name: letters, digits, - and _, and maybe a folder before it", given)
  end
  return name, base
end

--- Nothing is ever overwritten, whoever else may be writing.
local function write(path, text)
  local descriptor, problem, code = uv.fs_open(path, "wx", 438) -- 0666: the user's umask decides
  if code == "EEXIST" then refuse("'%s' is there already, and is left as it is", path) end
  if not descriptor then refuse("cannot write '%s': %s", path, files.reason(problem)) end
  local written
  written, problem = uv.fs_write(descriptor, text)
  uv.fs_close(descriptor)
  if written ~= #text then
    refuse("cannot write '%s': %s", path, problem and files.reason(problem) or "the disk is full")
  end
end

local function main(arguments)
  local kind = KINDS[arguments.kind]
  if not kind then
    refuse("there is no '%s' to begin with, but %s%s", arguments.kind, table.concat(NAMES, ", "),
      suggest.near(arguments.kind, NAMES))
  end
  local name, base = check_name(arguments.name)
  local path = kind.path:format(kind.of_base and base or name)
  if kind.of_base and not files.is_folder "spec" then assert(uv.fs_mkdir("spec", 511)) end
  local text = package.loaded["parley.bundle"].read(("scripts/templates/%s.lua"):format(arguments.kind))
  write(path, (text:gsub("NAME", name):gsub("BASE", base)))
  cli.write(path, "\n")
  io.stderr:write("parley: next: ", (kind.following:gsub("%%s", name)), "\n")
end

return cli.run({
  name = "new", summary = "Writes a commented start of a policy, a spec or a batch.", define = define, main = main,
  examples = [[
  parley new policy quick && parley new spec quick && parley test
  parley new batch interview && parley batch interview.lua --stand-in]],
}, ...)
