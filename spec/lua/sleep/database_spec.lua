local core = require "parley.core"
local database = require "parley.sleep.database"
local helper = require "spec.helper"
local index = require "parley.sleep.index"
local uv = require "luv"

describe("the index's file, moved aside,", function()
  local check_leaks, path

  local function open() return assert(index.open { path = path }) end

  local function entry(id) return { session_id = id, keys = {}, scope = "s", path = "/t", state = "asleep" } end

  before_each(function()
    check_leaks = helper.leaks()
    path = helper.temporary_folder() .. "/state/sessions.db"
  end)

  after_each(function()
    helper.remove_folders()
    check_leaks()
  end)

  local function make()
    local store <close> = open()
    assert(store:put(entry "made"))
  end

  it("takes its log with it", function()
    local store <close> = open()
    store:put(entry "one")
    local aside = database.move_aside(path, database.identity(path))
    for _, part in ipairs { "", "-wal", "-shm" } do
      assert.is_nil(uv.fs_stat(path .. part))
      assert.is_not_nil(uv.fs_stat(aside .. part))
    end
    local file <close> = assert(core.sqlite.open(aside))
    assert.same({ { session_id = "one" } }, file:query "SELECT session_id FROM sessions")
  end)

  it("is so once, whoever else has seen the damage", function()
    make()
    local identity = database.identity(path)
    assert.is_not_nil(database.move_aside(path, identity))
    assert.is_nil(database.move_aside(path, identity))
    local store <close> = open()
    assert.is_nil(database.move_aside(path, identity))
    assert.is_true(store:put(entry "one"))
  end)

  it("does no harm to the new one when who has it open still lets go of it", function()
    local old = open()
    old:put(entry "one")
    database.move_aside(path, database.identity(path))
    local new <close> = open()
    new:put(entry "two")
    old:close()
    assert.is_not_nil(uv.fs_stat(path .. "-wal"))
    local other <close> = open()
    assert.is_not_nil(other:get "two")
    assert.is_nil(other:get "one")
  end)

  it("is not while another makes it", function()
    make()
    local guard = assert(core.lock.take(path .. ".guard"))
    local began = uv.hrtime()
    local store, err = index.open { path = path }
    assert.is_nil(store)
    assert.equal("busy", err.reason)
    assert.matches("has been in use by another process for 5 seconds", err.message, 1, true)
    assert.is_true(uv.hrtime() - began > 4e9)
    guard:release()
    make()
  end)
end)

describe("the index's file", function()
  after_each(helper.remove_folders)

  it("is its user's alone behind a link, too, that led nowhere", helper.task(function()
    local folder = helper.temporary_folder()
    assert(uv.fs_symlink(folder .. "/there.db", folder .. "/sessions.db"))
    local program = helper.run { "sh", "-c", ([[umask 022; exec "$0" -e '
      require("parley.sleep.database").open("%s/sessions.db", "process"):close()']]):format(folder), helper.host }
    assert.equal(0, program.status, program.errors)
    assert.equal(384, uv.fs_stat(folder .. "/there.db").mode & 511) -- 0600
  end))
end)
