# The idea in its first form: a GenServer owns an ETS table and renews the token ahead of expiry; get/0 reads the table.
# Prints the nanoseconds of one get/0, with instants as DateTime and with instants as whole seconds.

defmodule Tokens do
  use GenServer

  @lifetime 3600
  @refresh_leading_time 300

  def start_link(_), do: GenServer.start_link(__MODULE__, nil, name: __MODULE__)

  def get do
    [{:token, token, _issued_at, expires_at}] = :ets.lookup(__MODULE__, :token)

    if DateTime.compare(DateTime.utc_now(), expires_at) == :lt do
      token
    else
      GenServer.call(__MODULE__, :refresh)
    end
  end

  def get_by_seconds do
    [{:by_seconds, token, _issued_at, expires_at}] = :ets.lookup(__MODULE__, :by_seconds)
    if System.os_time(:second) < expires_at, do: token, else: GenServer.call(__MODULE__, :refresh)
  end

  @impl true
  def init(nil) do
    :ets.new(__MODULE__, [:set, :named_table, :protected, read_concurrency: true])
    {:ok, refresh()}
  end

  @impl true
  def handle_call(:refresh, _from, _state) do
    token = refresh()
    {:reply, token, token}
  end

  @impl true
  def handle_info(:refresh, _state), do: {:noreply, refresh()}

  defp refresh do
    now = DateTime.utc_now()
    seconds = System.os_time(:second)
    token = Base.url_encode64(:crypto.strong_rand_bytes(48))
    :ets.insert(__MODULE__, {:token, token, now, DateTime.add(now, @lifetime)})
    :ets.insert(__MODULE__, {:by_seconds, token, seconds, seconds + @lifetime})
    Process.send_after(self(), :refresh, (@lifetime - @refresh_leading_time) * 1000)
    token
  end
end

defmodule Rounds do
  @calls 200_000

  def median(get) do
    times = for _ <- 1..11, do: elem(:timer.tc(fn -> loop(get, @calls) end), 0)
    Enum.at(Enum.sort(times), 5) * 1000 / @calls
  end

  defp loop(:get, 0), do: :ok
  defp loop(:get_by_seconds, 0), do: :ok

  defp loop(:get, left) do
    Tokens.get()
    loop(:get, left - 1)
  end

  defp loop(:get_by_seconds, left) do
    Tokens.get_by_seconds()
    loop(:get_by_seconds, left - 1)
  end
end

{:ok, _} = Supervisor.start_link([Tokens], strategy: :one_for_one)
IO.puts("#{Rounds.median(:get)} #{Rounds.median(:get_by_seconds)}")
