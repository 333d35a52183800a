-- Writes a commented start of a policy, a spec or a batch.
local uv = require "luv"
local cli = require "parley.command.cli"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local policies = require "parley.policy"
local suggest = require "parley.base.suggest"

--- What each is called as a file, and what is done with it next: with `%s` for its name, `%k` for the kind of policy.
local WRITTEN = {
  policy = { path = "%s.lua", following = "parley new spec %s; parley ask --policy %k=%s.lua MESSAGE" },
  spec = { path = "spec/%s_spec.lua", of_base = true, following = "parley test" },
  batch = { path = "%s.lua", following = "parley batch %s.lua --stand-in" },
}
local NAMES = { "batch", "policy", "spec" }
local DEFAULT = "routing"

local function define(parser)
  cli.offer(parser:argument("what", "policy (NAME.lua), spec (spec/NAME_spec.lua, of that policy) or "
    .. "batch (NAME.lua, for parley batch)."), NAMES)
  parser:argument("name", "What it is called; a folder may stand before it.")
  local kinds = policies.names()
  cli.offer(parser:option("--kind", ("Which policy, or the spec of which: %s or %s. Default: routing; of a spec, what "
    .. "NAME.lua says that it is."):format(table.concat(kinds, ", ", 1, #kinds - 1), kinds[#kinds]))
    :argname "KIND", kinds)
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

local function has(list, wanted)
  for _, value in ipairs(list) do
    if value == wanted then return true end
  end
  return false
end

--- Which policy it is about; nil where it is about none. The beginnings say so in their first line.
local function kind_of(what, name, given)
  if what == "batch" then
    if given then refuse "--kind is for policies and their specs, and not for a batch" end
    return nil
  end
  local kinds = policies.names()
  if given and not has(kinds, given) then
    refuse("there is no policy '%s', but %s%s", given, table.concat(kinds, ", "), suggest.near(given, kinds))
  end
  local said = what == "spec" and (files.read(name .. ".lua") or ""):match "^%-%- An? ([%w_]+) policy:"
  return given or said and has(kinds, said) and said or DEFAULT
end

local function main(arguments)
  local what = arguments.what
  local written = WRITTEN[what]
  if not written then
    refuse("there is no '%s' to begin with, but %s%s", what, table.concat(NAMES, ", "), suggest.near(what, NAMES))
  end
  local name, base = check_name(arguments.name)
  local kind = kind_of(what, name, arguments.kind)
  local path = written.path:format(written.of_base and base or name)
  if written.of_base and not files.is_folder "spec" then
    local ok, problem = uv.fs_mkdir("spec", 511)
    if not ok then refuse("cannot make the folder 'spec': %s", files.reason(problem)) end
  end
  local template = kind and what .. "/" .. kind or what
  local text = package.loaded["parley.bundle"].read(("scripts/templates/%s.lua"):format(template))
  write(path, (text:gsub("NAME", name):gsub("BASE", base)))
  cli.write(path, "\n")
  io.stderr:write("parley: next: ", (written.following:gsub("%%s", name):gsub("%%k", kind or "")), "\n")
end

return cli.run({
  name = "new", summary = "Writes a commented start of a policy, a spec or a batch.", define = define, main = main,
  examples = [[
  parley new policy quick && parley new spec quick && parley test
  parley new policy --kind permission guard && parley new spec guard
  parley new batch interview && parley batch interview.lua --stand-in]],
}, ...)
