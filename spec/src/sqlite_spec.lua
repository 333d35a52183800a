local core = require "parley.core"
local errors = require "parley.base.errors"
local helper = require "spec.helper"

local sqlite = core.sqlite

describe("sqlite", function()
  local check_leaks, path, database

  before_each(function()
    check_leaks = helper.leaks()
    path = helper.temporary_folder() .. "/file.db"
    database = assert(sqlite.open(path))
  end)

  after_each(function()
    database:close()
    helper.remove_folders()
    check_leaks()
  end)

  it("gives back what it was given, byte for byte", function()
    assert.is_true(database:script "CREATE TABLE t (a, b, c, d, e, f)")
    assert.same({}, database:query("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?)", 1, 1.5, "a\0\xffb", "", true, nil))
    local row = assert(database:query "SELECT * FROM t")[1]
    assert.same({ a = 1, b = 1.5, c = "a\0\xffb", d = "", e = 1 }, row)
    assert.equal("integer", math.type(row.a))
    assert.same({ { n = math.mininteger } }, database:query("SELECT ? AS n", math.mininteger))
  end)

  it("gives all rows of a statement, again and again", function()
    local text = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) SELECT i FROM n"
    for _, count in ipairs { 3, 1000, 1 } do
      local rows = assert(database:query(text, count))
      assert.equal(count, #rows)
      assert.equal(count, rows[count].i)
    end
  end)

  it("names what fails by SQLite's word, and goes on", function()
    database:script "CREATE TABLE t (a UNIQUE)"
    for _ = 1, 2 do
      local rows, err = database:query "SELECT a FROM nowhere"
      assert.is_nil(rows)
      assert.is_true(errors.is(err, "SQLITE_ERROR"))
      assert.matches("no such table: nowhere", err.message, 1, true)
    end
    assert(database:query("INSERT INTO t VALUES (?)", "one"))
    assert.equal("SQLITE_CONSTRAINT", select(2, database:query("INSERT INTO t VALUES (?)", "one")).code)
    assert(database:query("INSERT INTO t VALUES (?)", "two"))
    assert.equal("SQLITE_ERROR", select(2, database:script "SELECT 1; nonsense").code)
  end)

  it("says why a file cannot be opened", function()
    local other, err = sqlite.open(path .. "/in/no/folder")
    assert.is_nil(other)
    assert.equal("SQLITE_CANTOPEN", err.code)
    assert.equal("ENOTDIR", err.cause)
    assert.matches(path, err.message, 1, true)
  end)

  it("waits for another as long as it is told, and no longer", function()
    database:script "CREATE TABLE t (a); BEGIN IMMEDIATE"
    assert.is_true(database:in_transaction())
    local other <close> = assert(sqlite.open(path, 10))
    local rows, err = other:query "INSERT INTO t VALUES (1)"
    assert.is_nil(rows)
    assert.equal("SQLITE_BUSY", err.code)
    database:script "COMMIT"
    assert.is_false(database:in_transaction())
    assert.same({}, other:query "INSERT INTO t VALUES (1)")
  end)

  it("holds nothing of the file after a statement that failed or was not read to its end", function()
    database:script "CREATE TABLE t (a UNIQUE); INSERT INTO t VALUES (1), (2)"
    assert.is_nil(database:query "INSERT INTO t SELECT a FROM t")
    assert.equal(2, #assert(database:query "SELECT a FROM t"))
    local other <close> = assert(sqlite.open(path))
    assert.is_true(other:script "DROP TABLE t")
  end)

  it("rolls back what has not ended when it is closed, and leaves no descriptor", function()
    database:script "CREATE TABLE t (a)"
    database:query "SELECT a FROM t"
    database:script "BEGIN; INSERT INTO t VALUES (1)"
    database:close()
    database:close()
    assert.equal("parley.sqlite (closed)", tostring(database))
    local other <close> = assert(sqlite.open(path))
    assert.same({}, other:query "SELECT a FROM t")
  end)

  it("is closed by the collector", function()
    local other = assert(sqlite.open(path))
    other:query "SELECT 1"
    other = nil -- luacheck: ignore 311
    collectgarbage()
    collectgarbage()
  end) -- the leak check knows

  describe("used wrongly", function()
    it("says so", function()
      assert.error_matches(function() sqlite.open "" end, "without NUL")
      assert.error_matches(function() sqlite.open "a\0b" end, "without NUL")
      assert.error_matches(function() sqlite.open(path, -1) end, "milliseconds")
      assert.error_matches(function() database:query "" end, "without NUL")
      assert.error_matches(function() database:query "SELECT 1\0" end, "without NUL")
      assert.error_matches(function() database:query "SELECT 1; SELECT 2" end, "one statement")
      assert.error_matches(function() database:query "-- nothing" end, "as many values")
      assert.error_matches(function() database:query "SELECT ?" end, "as many values")
      assert.error_matches(function() database:query("SELECT 1", 2) end, "as many values")
      assert.error_matches(function() database:query("SELECT ?", {}) end, "a boolean, a number")
      assert.error_matches(function() database.query(io.stdout, "SELECT 1") end, "parley.sqlite")
      database:close()
      for _, method in ipairs { "query", "script", "in_transaction" } do
        assert.error_matches(function() database[method](database, "SELECT 1") end, "closed")
      end
    end)
  end)
end)
