--- Who may ask: tokens with names, from the command line, the environment, or a file that is made at the first start.
local core = require "parley.core"
local errors = require "parley.base.errors"
local files = require "parley.base.files"
local uv = require "luv"

local M = {}

--- What a header can carry and nobody mistypes; shorter ones would be guessed.
local TOKEN, SHORTEST = "^[%w._~+/-]+=*$", 8

---@class parley.gateway.Tokens
---@field package digests {name: string, digest: string}[]
local Tokens = {}
Tokens.__index = Tokens
Tokens.__name = "parley.gateway.Tokens"

--- Parley's folder for what it keeps between its runs; `XDG_STATE_HOME` is respected.
---@return string path
--- Raises `ValueError` where there is no home.
function M.state_folder()
  local state, home = os.getenv "XDG_STATE_HOME", os.getenv "HOME"
  if not state or state == "" then state = home and home ~= "" and home .. "/.local/state" or nil end
  if not state then
    error(errors.value_error "there is no place for a token: neither HOME nor XDG_STATE_HOME is set (give --token)", 0)
  end
  return state .. "/parley"
end

--- The token of the file, which is written where there is none: 32 random bytes, for its owner alone.
---@param folder string
---@return string token
--- Raises the system's error, and `ValueError` for a file that holds none or that others can read.
function M.of_folder(folder)
  local path = folder .. "/token"
  local made, problem = files.make_folder(folder)
  if not made then error(problem, 0) end
  local token = "parley-" .. core.digest.hex(assert(uv.random(32)))
  local ok, failure, code = files.put(path, token .. "\n", "wx")
  if not ok and code ~= "EEXIST" then -- of two that start at a time one writes, and both read
    error(errors.new(code, ("cannot write the token to '%s': %s"):format(path, files.reason(failure))), 0)
  end
  local text, why = files.read(path)
  if not text then error(errors.value_error(("cannot read the token in '%s': %s"):format(path, why)), 0) end
  local stat = uv.fs_stat(path)
  if stat.mode & 63 ~= 0 then -- 077
    error(errors.value_error(("others may read the token in '%s': chmod 600 it, or remove it for a new one"):format(
      path)), 0)
  end
  local found = text:match "^%s*(%S+)%s*$"
  if not found or #found < SHORTEST or not found:find(TOKEN) then
    error(errors.value_error(("'%s' holds no token: remove it, and another is made"):format(path)), 0)
  end
  return found
end

local function is_token(text) return #text >= SHORTEST and text:find(TOKEN) ~= nil end

--- Reads `NAME=TOKEN`, or a token alone, whose name is `default`.
---@param text string
---@return {name: string, token: string}? entry
---@return string? problem
function M.parse(text)
  local name, token = text:match "^([%w_.-]+)=(.+)$"
  if name and is_token(token) then return { name = name, token = token } end
  if is_token(text) then return { name = "default", token = text } end
  return nil, ("a token must have at least %d letters, digits and any of . _ ~ + / -, with NAME= before it where there "
    .. "are several"):format(SHORTEST)
end

local function digest(token) return core.digest.blake2b(token, 32) end

--- Makes the tokens.
---@param given {name: string, token: string}[]
---@return parley.gateway.Tokens
--- Raises `ValueError` for a name that comes twice.
function M.new(given)
  local self, seen = setmetatable({ digests = {} }, Tokens), {}
  for i, entry in ipairs(given) do
    if seen[entry.name] then
      error(errors.value_error(("two tokens have the name '%s'"):format(entry.name)), 0)
    end
    seen[entry.name] = true
    self.digests[i] = { name = entry.name, digest = digest(entry.token) }
  end
  return self
end

--- Whether two digests are the same, in a time that does not tell where they differ.
local function is_same(one, other)
  local difference = 0
  for i = 1, #one do difference = difference | (one:byte(i) ~ other:byte(i)) end
  return difference == 0
end

--- The token in a request: `x-api-key`, or `authorization: Bearer`.
local function given_in(headers)
  local bearer = (headers.authorization or ""):match "^[Bb][Ee][Aa][Rr][Ee][Rr]%s+(%S+)%s*$"
  return headers["x-api-key"] or bearer
end

--- Who asks. Every token is looked at, whichever fits.
---@param headers table<string, string>
---@return string? name
function Tokens:owner(headers)
  local token, owner = given_in(headers), nil
  local asked = digest(token or "")
  for _, entry in ipairs(self.digests) do
    local fits = is_same(asked, entry.digest)
    owner = fits and token and entry.name or owner
  end
  return owner
end

return M
