// The service itself: every kind of managed state that a reader of the dump may ask about.

using System.Collections.Concurrent;
using System.Reflection;
using System.Reflection.Emit;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Demo;

internal sealed class OrderService : IDisposable
{
    private const int CustomerCount = 4_000;
    private const int OrderCount = 40_000;
    private const int WaitingShipments = 200;

    private static readonly string[] Articles = ["lamp", "chair", "Tür", "стол", "机器", "kettle", "bookcase"];

    [ThreadStatic]
    private static string? t_worker;

    private static Exception? s_lastFailure;

    private readonly Random _random = new(1);
    private readonly Dictionary<int, Customer> _customers = [];
    private readonly ConcurrentDictionary<string, Order> _ordersByNumber = new();
    private readonly RecentCache<Guid, Money> _prices = new(capacity: 5_000);
    private readonly Queue<Order> _backlog = new();
    private readonly List<byte[]> _invoices = [];
    private readonly double[] _priceHistory;
    private readonly byte[] _networkBuffer;
    private readonly GCHandle _nativeCallbackState;
    private readonly WeakReference<Order> _lastViewed;
    private readonly ConditionalWeakTable<Order, string> _labels = [];
    private readonly Timer _cleanup;
    private readonly object _plugin;

    private readonly object _inventory = new();
    private readonly ManualResetEventSlim _closing = new();
    private readonly ManualResetEventSlim _inventoryLocked = new();
    private readonly TaskCompletionSource<int> _carrier = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly List<Task<int>> _shipments = [];
    private readonly Thread _counter;
    private readonly Thread _seller;

    public OrderService()
    {
        FillOrders();
        _priceHistory = [.. Enumerable.Range(0, 500_000).Select(i => Math.Sin(i))]; // large object heap
        for (int i = 0; i < 100; i++)
        {
            _invoices.Add(RandomBytes(200_000)); // large object heap
        }

        _networkBuffer = GC.AllocateArray<byte>(1 << 20, pinned: true); // pinned object heap
        _random.NextBytes(_networkBuffer);
        _nativeCallbackState = GCHandle.Alloc(_backlog.Peek());
        _lastViewed = new WeakReference<Order>(_ordersByNumber["N-000007"]);
        _labels.Add(_backlog.Peek(), "fragile"); // a dependent handle
        _cleanup = new Timer(static state => ((OrderService)state!)._prices.GetHashCode(), this, Timeout.Infinite, Timeout.Infinite);
        _plugin = CreatePlugin();
        s_lastFailure = FailOnce(_backlog.Peek());

        for (int i = 0; i < WaitingShipments; i++)
        {
            _shipments.Add(ShipAsync(_backlog.ElementAt(i)));
        }

        _counter = Start("inventory", CountInventory);
        _inventoryLocked.Wait();
        _seller = Start("sales", SellFromInventory);
    }

    /// <summary>Returns once the lock is held by one thread and waited for by the other.</summary>
    public void WaitUntilBusy()
    {
        while (!_seller.ThreadState.HasFlag(ThreadState.WaitSleepJoin))
        {
            Thread.Yield();
        }
    }

    public void Dispose()
    {
        _closing.Set();
        _carrier.SetResult(0);
        Task.WaitAll(_shipments);
        _counter.Join();
        _seller.Join();
        _cleanup.Dispose();
        _nativeCallbackState.Free();
        GC.KeepAlive(_plugin);
        GC.KeepAlive(_lastViewed);
        GC.KeepAlive(_priceHistory);
    }

    private void FillOrders()
    {
        for (int id = 0; id < CustomerCount; id++)
        {
            _customers[id] = new Customer(id, $"Customer {id} of {Articles[id % Articles.Length]} street");
        }

        for (int id = 0; id < OrderCount; id++)
        {
            Customer customer = _customers[_random.Next(CustomerCount)];
            var order = new Order(id, customer, [.. Enumerable.Range(0, 1 + id % 5).Select(_ => NewLine())]);
            customer.Orders.Add(order);
            _ordersByNumber[$"N-{id:D6}"] = order;
            if (id % 3 == 0)
            {
                _backlog.Enqueue(order);
                order.Note = $"Deliver {order.Lines[0].Article} to {customer.Name}, ring twice";
            }

            _prices.Add(new Guid(id, 0, 0, new byte[8]), order.Lines[0].Price);
        }
    }

    private OrderLine NewLine()
    {
        string article = Articles[_random.Next(Articles.Length)];
        return new OrderLine($"{article} {_random.Next(1_000)}", _random.Next(1, 9), new Money(_random.Next(1, 90_000) / 100m, "EUR"));
    }

    private byte[] RandomBytes(int size)
    {
        byte[] bytes = new byte[size];
        _random.NextBytes(bytes);
        return bytes;
    }

    private static PaymentException FailOnce(Order order)
    {
        try
        {
            Pay(order);
            throw new InvalidOperationException("the payment was to fail");
        }
        catch (PaymentException error)
        {
            return error;
        }
    }

    private static void Pay(Order order)
    {
        try
        {
            _ = order.Lines[order.Lines.Length].Price;
        }
        catch (IndexOutOfRangeException error)
        {
            throw new PaymentException($"order {order.Id} cannot be paid", order, error);
        }
    }

    private async Task<int> ShipAsync(Order order)
    {
        string parcel = $"parcel of order {order.Id}";
        int weight = await _carrier.Task.ConfigureAwait(false);
        order.State = OrderState.Shipped;
        return weight + parcel.Length;
    }

    // A type that exists in memory alone, as serializers and mocking libraries make them.
    private static object CreatePlugin()
    {
        AssemblyBuilder assembly = AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Demo.Plugins"), AssemblyBuilderAccess.Run);
        TypeBuilder type = assembly.DefineDynamicModule("Demo.Plugins").DefineType("Demo.Plugins.Discount", TypeAttributes.Public);
        FieldBuilder percent = type.DefineField("Percent", typeof(int), FieldAttributes.Public);
        MethodBuilder apply = type.DefineMethod("Apply", MethodAttributes.Public, typeof(int), Type.EmptyTypes);
        ILGenerator il = apply.GetILGenerator();
        il.Emit(OpCodes.Ldarg_0);
        il.Emit(OpCodes.Ldfld, percent);
        il.Emit(OpCodes.Ret);

        object plugin = Activator.CreateInstance(type.CreateType())!;
        plugin.GetType().GetField("Percent")!.SetValue(plugin, 15);
        plugin.GetType().GetMethod("Apply")!.Invoke(plugin, null);
        return plugin;
    }

    private static Thread Start(string name, ThreadStart run)
    {
        var thread = new Thread(run) { Name = name, IsBackground = true };
        thread.Start();
        return thread;
    }

    private void CountInventory()
    {
        t_worker = "counting";
        lock (_inventory)
        {
            _inventoryLocked.Set();
            _closing.Wait();
        }
    }

    private void SellFromInventory()
    {
        t_worker = "selling";
        lock (_inventory)
        {
            GC.KeepAlive(t_worker);
        }
    }
}
