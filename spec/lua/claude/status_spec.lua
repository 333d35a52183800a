local uv = require "luv"
local files = require "parley.base.files"
local status = require "parley.claude.status"
local helper = require "spec.helper"
local in_no_time = require("spec.simulated_clock").task
local task = require "parley.base.task"

describe("status", function()
  local folder, path, watched, calls, check_leaks

  before_each(function()
    check_leaks = helper.leaks()
    folder = helper.temporary_folder()
    path, calls = folder .. "/sessions/42.json", 0
  end)

  after_each(function()
    if watched then watched:close() end
    watched = nil
    helper.remove_folders()
    check_leaks()
  end)

  local function watch()
    watched = status.watch(path, function() calls = calls + 1 end)
    return watched
  end

  ---Wait until the file is known to say this; nil for no file.
  local function wait_for(expected)
    helper.eventually(function()
      return (watched.value and watched.value.status) == expected
    end, nil, ("status %s"):format(expected))
  end

  it("passes over what another process of that number has left", helper.task(function()
    files.make_folder(folder .. "/sessions")
    helper.write(path, [[{"status":"busy"}]])
    assert.is_nil(watch().value)
    helper.write(path, [[{"status":"idle"}]])
    wait_for "idle"
  end))

  it("knows nothing, and tells nothing, before there is a file", function()
    assert.is_nil(watch().value)
    assert.equal(0, calls)
  end)

  it("makes the folder that it has to watch, private", function()
    watch()
    assert.equal(448, assert(uv.fs_stat(folder .. "/sessions")).mode & 511)
  end)

  it("knows no version where the file has something else in its place", helper.task(function()
    watch()
    for word, version in pairs { idle = "null", busy = "5", waiting = "{}" } do
      helper.write(path, ([[{"status":"%s","version":%s}]]):format(word, version))
      wait_for(word)
      assert.is_nil(watched.value.version)
    end
  end))

  it("notices a file that appears later, and every change", helper.task(function()
    watch()
    for _, word in ipairs { "idle", "busy", "waiting", "idle" } do
      helper.write(path, ([[{"status":"%s","pid":42}]]):format(word))
      wait_for(word)
    end
    assert.is_true(calls >= 4)
  end))

  it("notices a file that is renamed into place", helper.task(function()
    watch()
    files.write(path, [[{"status":"idle"}]])
    wait_for "idle"
  end))

  it("keeps the last word while a new one is half written", helper.task(function()
    watch()
    files.write(path, [[{"status":"idle"}]])
    wait_for "idle"
    local file <close> = assert(io.open(path, "w"))
    file:setvbuf "no"
    file:write [[{"status":"bu]]
    helper.eventually(function() return watched.text == [[{"status":"bu]] end)
    assert.equal("idle", watched.value.status)
    file:write [[sy"}]]
    wait_for "busy"
  end))

  it("believes the last word no longer where the file stays half written", in_no_time(function()
    watch()
    files.write(path, [[{"status":"busy"}]])
    wait_for "busy"
    helper.write(path, [[{"status":"id]])
    watched:read()
    assert.equal("busy", watched.value.status)
    task.condition():wait(1000)
    watched:read()
    assert.is_nil(watched.value)
    helper.write(path, [[{"status":"idle"}]])
    watched:read()
    assert.equal("idle", watched.value.status)
  end))

  it("takes nothing but an object for a status", helper.task(function()
    watch()
    files.write(path, [[{"status":"idle"}]])
    wait_for "idle"
    for _, text in ipairs { "", "5", "null", [["busy"]] } do
      files.write(path, text)
      helper.eventually(function() return watched.text == text end)
      assert.equal("idle", watched.value.status)
    end
  end))

  it("notices the removal", helper.task(function()
    files.make_folder(folder .. "/sessions")
    helper.write(path, [[{"status":"idle"}]])
    watch()
    assert(uv.fs_unlink(path))
    wait_for(nil)
    assert.is_nil(watched.value)
    helper.write(path, [[{"status":"busy"}]])
    wait_for "busy"
  end))

  it("tells each change once, and nothing of other files", helper.task(function()
    watch()
    files.write(path, [[{"status":"idle"}]])
    wait_for "idle"
    local before = calls
    files.write(folder .. "/sessions/43.json", [[{"status":"busy"}]])
    files.write(path, [[{"status":"idle"}]])
    watched:read()
    files.write(path, [[{"status":"busy"}]])
    wait_for "busy"
    assert.equal(before + 1, calls)
  end))

  it("tells nothing after the close, which may be repeated", helper.task(function()
    watch():close()
    watched:close()
    files.write(path, [[{"status":"idle"}]])
    for _ = 1, 3 do uv.run "nowait" end
    assert.equal(0, calls)
  end))

  it("looks from time to time where nothing can be watched", helper.task(function()
    helper.write(folder .. "/config", "")
    path = folder .. "/config/sessions/42.json"
    watch()
    assert(uv.fs_unlink(folder .. "/config"))
    files.make_folder(folder .. "/config/sessions")
    files.write(path, [[{"status":"idle"}]])
    wait_for "idle"
  end))
end)
